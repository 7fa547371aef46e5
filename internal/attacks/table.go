package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// attack is one line of the table.
type attack struct {
	surface, attack, defence string
	tests                    []name
	// mutation is what was switched off to see the tests fail.
	mutation string
}

// name is a test, as "folder.TestName/case".
type name struct{ folder, test string }

// rootPackage stands for the module's root, whose folder has no name.
const rootPackage = "authz"

func (n name) String() string {
	if n.folder == "." {
		return rootPackage + "." + n.test
	}
	return n.folder + "." + n.test
}

// top is the name of the function.
func (n name) top() string {
	top, _, _ := strings.Cut(n.test, "/")
	return top
}

// reported is the name as the testing package writes it.
func (n name) reported() string { return strings.ReplaceAll(n.test, " ", "_") }

var named = regexp.MustCompile("`([a-z][a-z0-9/_-]*)\\.((?:Test|Fuzz)[A-Za-z0-9]+(?:/[^`]+)?)`")

// header starts the table.
const header = "| surface | attack | defence | test | switched off |"

// read returns the lines of the table in a document.
func read(document io.Reader) ([]attack, error) {
	var all []attack
	inTable := false
	lines := bufio.NewScanner(document)
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		switch {
		case line == header:
			inTable = true
			continue
		case !inTable || strings.HasPrefix(line, "|--"):
			continue
		case !strings.HasPrefix(line, "|"):
			inTable = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if len(cells) != 5 {
			return nil, fmt.Errorf("line %d: expected 5 cells, got %d", number, len(cells))
		}
		for i, cell := range cells {
			if cells[i] = strings.TrimSpace(cell); cells[i] == "" {
				return nil, fmt.Errorf("line %d: cell %d is empty", number, i+1)
			}
		}
		one := attack{surface: cells[0], attack: cells[1], defence: cells[2], mutation: cells[4]}
		for _, found := range named.FindAllStringSubmatch(cells[3], -1) {
			folder := found[1]
			if folder == rootPackage {
				folder = "."
			}
			one.tests = append(one.tests, name{folder, found[2]})
		}
		if len(one.tests) == 0 {
			return nil, fmt.Errorf("line %d: expected the name of a test such as `admin.TestHosts/a name`", number)
		}
		all = append(all, one)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the table: %w", err)
	}
	return all, nil
}
