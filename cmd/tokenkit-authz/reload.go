package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/tokenkithq/authz/admin"
)

// reloads sends the settings as they are read anew at each SIGHUP, until ctx is
// done: the flags of the command line as they were, the environment and the
// config file as they are. Settings that cannot be read are logged and not
// sent.
func reloads(ctx context.Context, given *pflag.FlagSet, logger *slog.Logger) <-chan *settings {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	read := make(chan *settings)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-hangups:
			case <-ctx.Done():
				return
			}
			next, err := rereadSettings(given)
			if err != nil {
				logger.Error("the settings were not reloaded; the old ones hold", "error", err)
				continue
			}
			select {
			case read <- next:
			case <-ctx.Done():
				return
			}
		}
	}()
	return read
}

func rereadSettings(given *pflag.FlagSet) (*settings, error) {
	next := &settings{}
	flags := next.defaults()
	var all []error
	given.Visit(func(f *pflag.Flag) {
		if f.Annotations[sourceAnnotation] != nil || flags.Lookup(f.Name) == nil {
			return
		}
		all = append(all, copyFlag(flags, f))
	})
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	if err := applyConfig(flags, os.Environ()); err != nil {
		return nil, err
	}
	next.texts = flagTexts(flags)
	return next, next.check()
}

// flagTexts returns the value of each setting as text.
func flagTexts(flags *pflag.FlagSet) map[string]string {
	texts := map[string]string{}
	eachSetting(flags, func(f *pflag.Flag) { texts[f.Name] = f.Value.String() })
	return texts
}

// copyFlag gives the flag of the same name in flags the value of f.
func copyFlag(flags *pflag.FlagSet, f *pflag.Flag) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		to := flags.Lookup(f.Name)
		target, ok := to.Value.(pflag.SliceValue)
		if !ok {
			return fmt.Errorf("%s: expected a list", settingName(f.Name))
		}
		to.Changed = true
		return target.Replace(list.GetSlice())
	}
	return flags.Set(f.Name, f.Value.String())
}

// reloadable are the settings that hold without a restart, as [service.apply]
// has it. The others say what is listened on, what files are open, how much
// memory is set aside, or how requests are read and answered.
var reloadable = []string{
	"admin-hosts", "block-ignore", "block-never", "decision-log-denials-only", "decision-log-one-in", "default-rate-limit", "drain",
	"log-denials", "log-level", "session-idle", "session-ttl", "stop-deadline", "strict",
}

// reload applies the settings that are read anew, until ctx is done, and
// returns nil.
func (v *service) reload(ctx context.Context) error {
	held := maps.Clone(v.settings.texts)
	for {
		var next *settings
		select {
		case next = <-v.settings.reloads:
		case <-ctx.Done():
			return nil
		}
		if err := v.apply(next); err != nil {
			v.logger.Error("the settings were not reloaded; the old ones hold", "error", err)
			continue
		}
		now := next.texts
		changed := 0
		for _, name := range slices.Sorted(maps.Keys(now)) {
			if now[name] == held[name] {
				continue
			}
			changed++
			if slices.Contains(reloadable, name) {
				v.logger.Info("setting changed", "setting", settingName(name), "from", held[name], "to", now[name])
				held[name] = now[name]
			} else {
				v.logger.Warn("setting changed, which holds after a restart only", "setting", settingName(name), "from", held[name], "to", now[name])
			}
		}
		v.logger.Info("settings reloaded", "changed", changed)
	}
}

// apply lets the settings hold that can change, all of them or, with an error,
// none.
func (v *service) apply(next *settings) error {
	level, err := next.level()
	uncounted, errIgnore := next.uncounted()
	never, errNever := next.neverBlocked()
	if err := errors.Join(err, errIgnore, errNever); err != nil {
		return err
	}
	if err := v.admin.SetPolicy(admin.Policy{
		SessionTTL: next.sessionTTL, SessionIdle: next.sessionIdle, DefaultRateLimit: next.defaultRateLimit, AllowedHosts: next.adminHosts, Strict: next.strict,
	}); err != nil {
		return err
	}
	if err := v.table.SetNever(never); err != nil { // they were checked
		return err
	}
	v.settings.levelVar.Set(level)
	v.authorizer.SetPolicy(next.strict, uncounted)
	v.authorizer.SetLoggedPerSecond(next.loggedPerSecond())
	if log := v.watch.decisions; log != nil {
		log.SetSampling(next.decisionLogDenials, next.decisionLogOneIn)
	}
	v.reloaded.Store(next)
	return nil
}

// current returns the settings that were read last. Only those that are
// [reloadable] hold.
func (v *service) current() *settings {
	if s := v.reloaded.Load(); s != nil {
		return s
	}
	return v.settings
}
