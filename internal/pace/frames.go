package pace

import "encoding/binary"

// What is told apart of HTTP/2's frames (RFC 9113, section 6).
const (
	frameHeaderLength = 9
	prefaceLength     = 24 // of what a client sends before its first frame

	frameData    = 0x0
	frameHeaders = 0x1
	endStream    = 0x1 // the flag
)

// frames follows one direction of a connection, wherever it is cut.
type frames struct {
	skip int // bytes until the next frame
	part [frameHeaderLength]byte
	have int // bytes of a frame's header that are in part
}

// seen are the frames that began in a piece of a connection.
type seen struct {
	headers int // that begin a stream, where a client sends them
	ends    int // of those, the ones that end it
	data    int // with something in them
}

// follow reads the next piece.
func (f *frames) follow(p []byte) (s seen) {
	for len(p) > 0 {
		if f.skip >= len(p) {
			f.skip -= len(p)
			return s
		}
		p = p[f.skip:]
		f.skip = 0
		header := p
		if f.have > 0 || len(p) < frameHeaderLength {
			n := copy(f.part[f.have:], p)
			f.have += n
			p = p[n:]
			if f.have < frameHeaderLength {
				return s
			}
			f.have, header = 0, f.part[:]
		} else {
			p = p[frameHeaderLength:]
		}
		f.skip = int(binary.BigEndian.Uint32(header) >> 8)
		switch kind, flags := header[3], header[4]; {
		case kind == frameHeaders:
			s.headers++
			if flags&endStream != 0 {
				s.ends++
			}
		case kind == frameData && f.skip > 0:
			s.data++
		}
	}
	return s
}
