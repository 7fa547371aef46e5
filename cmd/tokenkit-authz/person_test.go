package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/tokenkithq/authz/internal/real"
)

// person uses the dashboard in a real browser as people do: finds things by
// what they are called, clicks with the mouse and types on the keyboard. What
// the browser complains of meanwhile is kept in faults and violations.
type person struct {
	testing.TB
	tab    context.Context
	origin string
	clicks int

	mu         sync.Mutex
	faults     []string // console errors, exceptions, failed loads
	violations []string // of the Content-Security-Policy
}

//go:embed testdata/person.js
var personScript string

// patience is how long a person waits for a page.
const patience = 8 * time.Second

// startPerson opens a browser until the test ends.
func startPerson(t testing.TB, origin string) *person {
	t.Helper()
	chromium := real.Require(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(60*time.Second))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	tab, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	p := &person{TB: t, tab: tab, origin: origin}
	if err := chromedp.Listen(tab, p.notice); err != nil {
		t.Fatalf("opening the browser: %v", err)
	}
	for _, err := range []error{
		call(tab, audits.Enable, cdp.Empty{}),
		call(tab, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}),
		call(tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: personScript}),
	} {
		if err != nil {
			t.Fatalf("preparing the browser: %v", err)
		}
	}
	p.size(1280, 900)
	return p
}

func call[P, R any](tab context.Context, command cdp.Command[P, R], params P) error {
	_, err := chromedp.Call(tab, command, params)
	return err
}

// notice keeps what the browser complains of. A refusal by the server is an
// answer that flows ask for and look at, so the browser's own note of it is no
// fault of the page.
func (p *person) notice(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		text, _ := json.Marshal(event.ExceptionDetails)
		p.faults = append(p.faults, string(text))
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning || event.Type == runtime.ConsoleAPICalledTypeAssert {
			text, _ := json.Marshal(event.Args)
			p.faults = append(p.faults, string(text))
		}
	case *log.EventEntryAdded:
		entry := event.Entry
		refusal := entry.Source == log.EntrySourceNetwork && strings.Contains(entry.URL, "/api/") && strings.Contains(entry.Text, "status of 4")
		if entry.Source == log.EntrySourceSecurity {
			p.violations = append(p.violations, entry.Text)
		} else if (entry.Level == log.EntryLevelError || entry.Level == log.EntryLevelWarning) && !refusal {
			p.faults = append(p.faults, fmt.Sprintf("%s: %s", entry.Text, entry.URL))
		}
	case *audits.EventIssueAdded:
		if event.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
			text, _ := json.Marshal(event.Issue.Details)
			p.violations = append(p.violations, string(text))
		}
	}
}

// complaints returns what was noticed since it was last asked.
func (p *person) complaints() (faults, violations []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	faults, violations = p.faults, p.violations
	p.faults, p.violations = nil, nil
	return faults, violations
}

// do calls one of the functions of testdata/person.js and decodes its answer.
func do[T any](p *person, function string, args ...any) T {
	p.Helper()
	texts := make([]string, len(args))
	for i, arg := range args {
		text, err := json.Marshal(arg)
		if err != nil {
			p.Fatal(err)
		}
		texts[i] = string(text)
	}
	ctx, cancel := context.WithTimeout(p.tab, patience+5*time.Second)
	defer cancel()
	var answer struct {
		Value T
		Error string
	}
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf("person.run(%d, %q, [%s])", patience.Milliseconds(), function, strings.Join(texts, ",")), chromedp.EvalAwaitPromise))
	if err == nil {
		err = json.Unmarshal([]byte(text), &answer)
	}
	if err != nil || answer.Error != "" {
		p.picture("failed")
		p.Fatalf("%s(%s): %v %s", function, strings.Join(texts, ", "), err, answer.Error)
	}
	return answer.Value
}

// open goes to an address of the dashboard as by typing it.
func (p *person) open(path string) {
	p.Helper()
	if _, err := chromedp.Run(p.tab, chromedp.Navigate(p.origin+path)); err != nil {
		p.Fatal(err)
	}
	do[bool](p, "settled")
}

// click clicks a button, link or the like by its name.
func (p *person) click(name string) {
	p.Helper()
	at := do[[2]float64](p, "target", name)
	p.clicks++
	if _, err := chromedp.Run(p.tab, chromedp.MouseClickXY(at[0], at[1])); err != nil {
		p.Fatal(err)
	}
}

// enter puts text in place of what a field holds.
func (p *person) enter(label, text string) {
	p.Helper()
	do[bool](p, "focusField", label)
	p.typing(text)
}

// typing types where the focus is.
func (p *person) typing(text string) {
	p.Helper()
	if err := call(p.tab, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		p.Fatal(err)
	}
}

// press presses keys, such as "\t".
func (p *person) press(keys string) {
	p.Helper()
	if _, err := chromedp.Run(p.tab, chromedp.KeyEvent(keys)); err != nil {
		p.Fatal(err)
	}
}

// choose picks an entry of a list.
func (p *person) choose(label, option string) {
	p.Helper()
	do[bool](p, "choose", label, option)
}

// see waits until a text is on the page, in the dialog where one is open.
func (p *person) see(texts ...string) {
	p.Helper()
	for _, text := range texts {
		do[bool](p, "see", text)
	}
}

// miss waits until a text is no longer on the page.
func (p *person) miss(text string) {
	p.Helper()
	do[bool](p, "miss", text)
}

// row waits for a row of a table that holds all texts and returns its text.
func (p *person) row(texts ...string) string {
	p.Helper()
	return do[string](p, "row", texts)
}

// value returns what a field holds.
func (p *person) value(label string) string {
	p.Helper()
	return do[string](p, "value", label)
}

// focused returns the name of what has the focus.
func (p *person) focused() string {
	p.Helper()
	return do[string](p, "focused")
}

func (p *person) size(width, height int64) {
	p.Helper()
	if _, err := chromedp.Run(p.tab, chromedp.EmulateViewport(width, height)); err != nil {
		p.Fatal(err)
	}
}

// colours makes the system prefer "light" or "dark".
func (p *person) colours(scheme string) {
	p.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}
	if err := call(p.tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
		p.Fatal(err)
	}
}

// offline cuts the browser off, or connects it again.
func (p *person) offline(off bool) {
	p.Helper()
	var conditions []*network.Conditions
	if off {
		conditions = []*network.Conditions{{Offline: true, DownloadThroughput: -1, UploadThroughput: -1}}
	}
	if err := call(p.tab, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: conditions}); err != nil {
		p.Fatal(err)
	}
}

// picture writes what is to be seen to the folder that TOKENKIT_SCREENSHOTS
// names, if any.
func (p *person) picture(name string) {
	p.Helper()
	folder := os.Getenv("TOKENKIT_SCREENSHOTS")
	if folder == "" {
		return
	}
	// What lies over the page covers the screen, not the page.
	over, err := chromedp.Run(p.tab, chromedp.Evaluate[bool]("document.querySelector('dialog[open], [popover]:popover-open') !== null"))
	if err != nil {
		p.Fatal(err)
	}
	shoot := chromedp.FullScreenshot(100)
	if over {
		shoot = chromedp.CaptureScreenshot()
	}
	image, err := chromedp.Run(p.tab, shoot)
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, strings.ReplaceAll(name, "/", "-")+".png"), image, 0o644)
	}
	if err != nil {
		p.Logf("taking the picture %s: %v", name, err)
	}
}
