package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// searchTable holds what searches look at, without a pointer to a key: rows by
// ascending id, and their texts one behind the other in chunks. It is not safe
// for concurrent changes.
type searchTable struct {
	rows   []tableRow
	chunks [][]byte
	texts  int // bytes in all chunks
	unused int // bytes of texts that no row refers to any more
	gone   int // rows that were removed
}

type tableRow struct {
	searchRow
	gone  bool
	chunk uint32
	from  uint32
	until uint32
}

// chunkSize bounds a chunk of texts, in bytes. The longest text is far below.
const chunkSize = 64 << 10

// find returns where the row of id is, or would be.
func (t *searchTable) find(id apikey.KeyID) (int, bool) {
	if n := len(t.rows); n == 0 || t.rows[n-1].id < id {
		return n, false
	}
	return slices.BinarySearchFunc(t.rows, id, func(row tableRow, id apikey.KeyID) int { return cmp.Compare(row.id, id) })
}

// put adds a key or replaces what it was.
func (t *searchTable) put(key *apikey.Key) {
	row := tableRow{searchRow: rowOf(key)}
	text := searchText(key)
	at, found := t.find(key.ID)
	if found {
		// A change that is not to the text is the usual one, and takes no room.
		if before := &t.rows[at]; !before.gone && string(t.text(before)) == text {
			row.chunk, row.from, row.until = before.chunk, before.from, before.until
			t.rows[at] = row
			return
		}
		t.forget(&t.rows[at])
		t.gone--
	}
	t.place(&row, text)
	if found {
		t.rows[at] = row
	} else {
		t.rows = slices.Insert(t.rows, at, row)
	}
	t.tidy()
}

// place puts the text of a row behind all others.
func (t *searchTable) place(row *tableRow, text string) {
	last := len(t.chunks) - 1
	if last < 0 || len(t.chunks[last])+len(text) > chunkSize {
		t.chunks = append(t.chunks, make([]byte, 0, max(chunkSize, len(text))))
		last++
	}
	chunk := &t.chunks[last]
	row.chunk, row.from = uint32(last), uint32(len(*chunk))
	*chunk = append(*chunk, text...)
	row.until = uint32(len(*chunk))
	t.texts += len(text)
}

func (t *searchTable) text(row *tableRow) []byte { return t.chunks[row.chunk][row.from:row.until] }

// forget marks a row as gone, if it is not.
func (t *searchTable) forget(row *tableRow) {
	if !row.gone {
		row.gone = true
		t.gone++
		t.unused += int(row.until - row.from)
	}
}

// remove removes a key, if it is there.
func (t *searchTable) remove(id apikey.KeyID) {
	if at, found := t.find(id); found {
		t.forget(&t.rows[at])
		t.tidy()
	}
}

// touch moves the time of a key's last use forward.
func (t *searchTable) touch(id apikey.KeyID, used time.Time) {
	if at, found := t.find(id); found {
		t.rows[at].used = max(t.rows[at].used, micros(wholeSeconds(used)))
	}
}

// tidy writes the table anew once a good part of it is not in use, so that its
// size follows that of what it holds.
func (t *searchTable) tidy() {
	if t.unused <= max(t.texts/2, 16*chunkSize) && t.gone <= max(len(t.rows)/4, 1024) {
		return
	}
	anew := searchTable{rows: make([]tableRow, 0, len(t.rows)-t.gone)}
	for i := range t.rows {
		if row := t.rows[i]; !row.gone {
			text := string(t.text(&row))
			anew.place(&row, text)
			anew.rows = append(anew.rows, row)
		}
	}
	*t = anew
}

// search returns the ids of a page by descending id, one more where there is
// another page, and how many keys there are on all pages.
func (t *searchTable) search(filter *KeyFilter) (ids []apikey.KeyID, total int) {
	q, size := filter.query(), filter.Size()
	for i := len(t.rows) - 1; i >= 0; i-- {
		row := &t.rows[i]
		if row.gone || !q.matches(&row.searchRow, t.text(row)) {
			continue
		}
		total++
		if len(ids) <= size && (filter.After == 0 || row.id < filter.After) {
			ids = append(ids, row.id)
		}
	}
	return ids, total
}
