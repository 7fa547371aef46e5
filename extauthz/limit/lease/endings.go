package lease

// ending says when to look at a lease again.
type ending struct {
	place  uint32
	number uint64
	end    int64
}

// endings is a queue of leases in the order in which they end. Each is seen
// twice: a little before, when it may be followed by another, and afterwards.
type endings struct {
	list        []ending
	head, ahead int
}

func (q *endings) push(e ending) {
	if q.head > 64 && q.head > len(q.list)/2 {
		q.list = q.list[:copy(q.list, q.list[q.head:])]
		q.ahead -= q.head
		q.head = 0
	}
	q.list = append(q.list, e)
}

// pop returns the first that is due by a time, and takes it away.
func (q *endings) pop(by int64) (ending, bool) {
	if q.head == len(q.list) || q.list[q.head].end > by {
		return ending{}, false
	}
	q.head++
	q.ahead = max(q.ahead, q.head)
	return q.list[q.head-1], true
}

// next returns the first that is due by a time and was not returned before.
func (q *endings) next(by int64) (ending, bool) {
	if q.ahead == len(q.list) || q.list[q.ahead].end > by {
		return ending{}, false
	}
	q.ahead++
	return q.list[q.ahead-1], true
}
