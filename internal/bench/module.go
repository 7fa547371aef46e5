//go:build linux

package main

import (
	_ "embed" // for the module's source
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	modulev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/dynamic_modules/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_modules/v3"
)

//go:embed inprocess.c.txt
var moduleSource []byte

// errNoCompiler says that there is no C compiler.
var errNoCompiler = errors.New("no C compiler")

// buildModule compiles the filter that decides inside Envoy, and tells the
// Envoys that are started from now on where to find it.
func (l *lab) buildModule() (*filterv3.DynamicModuleFilter, error) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		return nil, errNoCompiler
	}
	const name = "inprocess"
	source := filepath.Join(l.dir, name+".c")
	if err := os.WriteFile(source, moduleSource, 0o600); err != nil {
		return nil, err
	}
	library := filepath.Join(l.dir, "lib"+name+".so")
	if out, err := exec.CommandContext(l.ctx, compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", library, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compiling the module: %w: %s", err, out)
	}
	if err := os.Setenv("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", l.dir); err != nil {
		return nil, err
	}
	return &filterv3.DynamicModuleFilter{DynamicModuleConfig: &modulev3.DynamicModuleConfig{Name: name}, FilterName: name}, nil
}
