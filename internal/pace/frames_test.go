package pace

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"golang.org/x/net/http2"
	"pgregory.net/rapid"
)

// Frames are found wherever the connection is cut, as another reader of
// HTTP/2 finds them.
func TestFramesAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire bytes.Buffer
		framer := http2.NewFramer(&wire, nil)
		for range rapid.IntRange(0, 20).Draw(t, "frames") {
			block := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "block")
			switch rapid.IntRange(0, 5).Draw(t, "kind") {
			case 0:
				_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: rapid.Bool().Draw(t, "end")})
			case 1:
				_ = framer.WriteData(1, rapid.Bool().Draw(t, "end"), block)
			case 2:
				_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
			case 3:
				_ = framer.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
			case 4:
				_ = framer.WriteWindowUpdate(0, 1)
			case 5:
				_ = framer.WriteContinuation(1, true, block)
			}
		}
		preface := rapid.Bool().Draw(t, "preface")
		text := wire.Bytes()
		var f frames
		if preface {
			f.skip = prefaceLength
			text = append([]byte(http2.ClientPreface), text...)
		}
		want := readFrames(t, wire.Bytes())
		var got seen
		for len(text) > 0 {
			n := rapid.IntRange(1, len(text)).Draw(t, "cut")
			s := f.follow(text[:n])
			got = seen{got.headers + s.headers, got.ends + s.ends, got.data + s.data}
			text = text[n:]
		}
		if got != want {
			t.Fatalf("found %+v, want %+v", got, want)
		}
	})
}

func readFrames(t *rapid.T, text []byte) (s seen) {
	reader := http2.NewFramer(io.Discard, bytes.NewReader(text))
	reader.AllowIllegalReads = true
	for {
		frame, err := reader.ReadFrame()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			s.headers++
			if frame.StreamEnded() {
				s.ends++
			}
		case *http2.DataFrame:
			if len(frame.Data()) > 0 {
				s.data++
			}
		}
	}
}
