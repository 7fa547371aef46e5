package admin

import "fmt"

func (c PasswordCost) validate() error {
	switch {
	case c.Passes < 1 || c.Passes > 16:
		return fmt.Errorf("Passes: expected 1 to 16, got %d", c.Passes)
	case c.Parallelism < 1 || c.Parallelism > 16:
		return fmt.Errorf("Parallelism: expected 1 to 16, got %d", c.Parallelism)
	case c.MemoryKiB < 8*uint32(c.Parallelism) || c.MemoryKiB > 1<<20:
		return fmt.Errorf("MemoryKiB: expected %d to %d, got %d", 8*c.Parallelism, 1<<20, c.MemoryKiB)
	}
	return nil
}
