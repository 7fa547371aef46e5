package scale

import (
	"fmt"
	"time"
)

// scenario is what is simulated.
type scenario struct {
	name      string
	replicas  int
	keys      uint64
	limits    []uint32      // of the keys, in turn
	perSecond float64       // calls of all replicas
	evenly    bool          // each replica gets as many; else the first most
	ample     bool          // no limit is used up
	duration  time.Duration // simulated
	delay     time.Duration // of the network, one way
	faults    bool          // partitions, crashes, failovers, losses
	forgets   bool          // at failovers the last seconds' grants are forgotten
}

// mixed are the limits of most simulated keys, in turn.
var mixed = []uint32{60, 1000, 5000, 100_000}

// scenarios returns what is simulated: a little in each test run, and with
// TOKENKIT_SCALE=short or long more; steady, busy, many and faults are the parts
// of long.
func scenarios(size string) []scenario {
	switch size {
	case "short":
		return short()
	case "steady":
		return steady()
	case "busy":
		return busy()
	case "many":
		return many()
	case "faults":
		return faulty()
	case "long":
		var all []scenario
		for _, part := range [][]scenario{steady(), busy(), many(), faulty()} {
			all = append(all, part...)
		}
		return all
	}
	return []scenario{{name: "5 replicas, faults", replicas: 5, keys: 100, limits: []uint32{60, 200, 1000}, perSecond: 20, duration: 63 * time.Minute, delay: time.Millisecond, faults: true}}
}

func short() []scenario {
	return []scenario{
		{name: "3 replicas, one key of 5000, 10 calls/s at each", replicas: 3, keys: 1, limits: []uint32{5000}, perSecond: 30, evenly: true, duration: 62 * time.Minute, delay: time.Millisecond},
		{name: "3 replicas, 10 busy keys", replicas: 3, keys: 10, limits: []uint32{20_000}, perSecond: 200, duration: 20 * time.Minute, delay: time.Millisecond},
		{name: "10 replicas, 10,000 keys", replicas: 10, keys: 10_000, limits: mixed, perSecond: 50, duration: 66 * time.Minute, delay: time.Millisecond},
		{name: "100 replicas, 1,000,000 keys", replicas: 100, keys: 1_000_000, limits: mixed, perSecond: 30, duration: 62 * time.Minute, delay: time.Millisecond},
		{name: "10 replicas, faults", replicas: 10, keys: 10_000, limits: mixed, perSecond: 50, duration: 66 * time.Minute, delay: time.Millisecond, faults: true},
		{name: "10 replicas, faults, an engine that forgets", replicas: 10, keys: 10_000, limits: mixed, perSecond: 30, duration: 66 * time.Minute, delay: time.Millisecond, faults: true, forgets: true},
	}
}

// steady has one key at three replicas, called 1.86 times as often as its limit
// allows.
func steady() (all []scenario) {
	for _, most := range []uint32{1000, 5000, 20_000, 100_000, 1_000_000} {
		all = append(all, scenario{
			name: fmt.Sprintf("3 replicas, one key of %d", most), replicas: 3, keys: 1, limits: []uint32{most},
			perSecond: float64(most) / 2000, duration: 62 * time.Minute, delay: time.Millisecond,
		})
	}
	return all
}

// busy has one key that each replica is asked about ten times a second.
func busy() (all []scenario) {
	const atEach = 10
	for _, replicas := range []int{3, 10, 100} {
		for _, most := range []uint32{1000, 5000, 20_000, 100_000, 1_000_000} {
			all = append(all, scenario{
				name: fmt.Sprintf("%d replicas, one key of %d, 10 calls/s at each", replicas, most), replicas: replicas, keys: 1, limits: []uint32{most},
				perSecond: float64(atEach * replicas), evenly: true, ample: atEach*replicas*3800 < int(most), duration: 62 * time.Minute, delay: time.Millisecond,
			})
		}
	}
	return all
}

// many has ten million keys, most of which are called rarely.
func many() (all []scenario) {
	for _, replicas := range []int{1, 3, 10, 30, 100, 300, 1000} {
		all = append(all, scenario{
			name: fmt.Sprintf("%d replicas, 10,000,000 keys", replicas), replicas: replicas, keys: 10_000_000, limits: mixed,
			perSecond: 300, duration: 65 * time.Minute, delay: time.Millisecond,
		})
	}
	return all
}

func faulty() (all []scenario) {
	for _, forgets := range []bool{false, true} {
		for _, replicas := range []int{10, 100, 1000} {
			s := scenario{
				name: fmt.Sprintf("%d replicas, faults", replicas), replicas: replicas, keys: 100_000, limits: mixed,
				perSecond: 200, duration: 130 * time.Minute, delay: 2 * time.Millisecond, faults: true, forgets: forgets,
			}
			if forgets {
				s.name, s.duration = s.name+", an engine that forgets", 80*time.Minute
			}
			all = append(all, s)
		}
	}
	return all
}
