package tunnel

// Tunnels are those to the servers of one kind.
type Tunnels []*Tunnel

// Cut is [Tunnel.Cut] of each.
func (all Tunnels) Cut() { all.each((*Tunnel).Cut) }

// CutAnswers is [Tunnel.CutAnswers] of each.
func (all Tunnels) CutAnswers() { all.each((*Tunnel).CutAnswers) }

// Heal is [Tunnel.Heal] of each.
func (all Tunnels) Heal() { all.each((*Tunnel).Heal) }

// Break is [Tunnel.Break] of each.
func (all Tunnels) Break() { all.each((*Tunnel).Break) }

func (all Tunnels) each(do func(*Tunnel)) {
	for _, n := range all {
		do(n)
	}
}
