package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tokenkithq/authz/envoy/doctor"
)

// examineData reports what in the data folder others than its owner could use.
// That there is no such folder is no finding.
func examineData(folder string) ([]doctor.Finding, error) {
	findings, err := examineFolder(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at the data folder: %w", err)
	}
	return findings, nil
}

func examineFolder(folder string) ([]doctor.Finding, error) {
	// Whoever owns a link decides where it leads. A service manager's link, as
	// systemd makes one for a DynamicUser, is as good as the folder.
	link, err := os.Lstat(folder)
	if err != nil {
		return nil, err
	}
	if link.Mode()&fs.ModeSymlink != 0 && !trusted(link) {
		return []doctor.Finding{dataLink(folder, "Name the folder itself.")}, nil
	}
	info, err := os.Stat(folder)
	if err != nil {
		return nil, err
	}
	findings := dataMode(folder, info)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		info, err := entry.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was there a moment ago
		case err != nil:
			return nil, err
		case info.Mode()&fs.ModeSymlink != 0:
			findings = append(findings, dataLink(path, "Keep the file itself in the data folder."))
		default:
			findings = append(findings, dataMode(path, info)...)
		}
	}
	return findings, nil
}

// trusted reports whether a file is of the administrator or of this user.
func trusted(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
}

func dataLink(path, fix string) doctor.Finding {
	return doctor.Finding{Severity: doctor.Danger, Code: "data-link", Where: path, What: "it is a symbolic link", Fix: fix}
}

func dataMode(path string, info fs.FileInfo) []doctor.Finding {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return nil
	}
	return []doctor.Finding{{
		Severity: doctor.Danger, Code: "data-mode", Where: path,
		What: fmt.Sprintf("others than its owner may use it: its mode is %o", mode), Fix: "chmod go-rwx " + path,
	}}
}
