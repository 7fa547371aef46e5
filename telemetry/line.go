package telemetry

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/extauthz"
)

// How many bytes of what a client chose a line holds.
const (
	maxMethod    = 32
	maxHost      = 256
	maxPath      = 1024
	maxRequestID = 128
)

// appendDecision appends the line of a Check, which stands for about oneIn of
// its kind.
func appendDecision(b []byte, check *extauthz.Checked, oneIn uint32) []byte {
	b = append(b, `{"time":"`...)
	b = check.At.UTC().AppendFormat(b, time.RFC3339Nano)
	switch {
	case check.Err != nil:
		b = append(b, `","result":"error","error":`...)
		b = appendText(b, status.Code(check.Err).String())
	case check.Allowed():
		b = append(b, `","result":"allowed","reason":"`...)
		b = append(append(b, check.Reason.String()...), '"')
	default:
		b = append(b, `","result":"denied","reason":"`...)
		b = append(append(b, check.Reason.String()...), '"')
	}
	if key := check.Key; key != nil {
		b = append(b, `,"key_id":`...)
		b = strconv.AppendInt(b, int64(key.ID), 10)
		b = appendField(b, `,"key_name":`, key.Name, maxHost)
	}
	if check.Address.IsValid() {
		b = append(b, `,"address":"`...)
		b = append(check.Address.AppendTo(b), '"')
	}
	b = appendField(b, `,"method":`, check.Method, maxMethod)
	b = appendField(b, `,"host":`, check.Host, maxHost)
	b = appendField(b, `,"path":`, check.Path, maxPath)
	b = appendField(b, `,"scope":`, check.RequiredScope, maxHost)
	b = appendField(b, `,"request_id":`, check.RequestID, maxRequestID)
	if check.Counted {
		b = append(b, `,"counted":true`...)
	}
	if check.Limit.Full {
		b = append(b, `,"limiter_full":true`...)
	}
	if oneIn > 1 {
		b = append(b, `,"one_in":`...)
		b = strconv.AppendUint(b, uint64(oneIn), 10)
	}
	b = append(b, `,"duration_ns":`...)
	b = strconv.AppendInt(b, check.Duration.Nanoseconds(), 10)
	return append(b, "}\n"...)
}

// appendField appends what a client chose, where there is any.
func appendField(b []byte, name, text string, most int) []byte {
	if text == "" {
		return b
	}
	return appendText(append(b, name...), shorten(redact(text), most))
}

// appendText appends a JSON string; bytes that are no UTF-8 are replaced.
func appendText(b []byte, text string) []byte {
	b, _ = jsontext.AppendQuote(b, text) // an error says only that some were
	return b
}

func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

const redacted = "[redacted]"

// leastSecret is how many characters after its prefix make a text look like a
// secret.
const leastSecret = 16

// redact replaces what looks like a key, a session token or an invitation,
// escaped or not: each begins with tk, tks or tki and an underscore.
func redact(text string) string {
	i := strings.Index(text, "tk")
	if i < 0 {
		return text
	}
	var b strings.Builder
	for i >= 0 {
		n := secretLength(text[i:])
		if n == 0 {
			b.WriteString(text[:i+2])
			text = text[i+2:]
		} else {
			b.WriteString(text[:i])
			b.WriteString(redacted)
			text = text[i+n:]
		}
		i = strings.Index(text, "tk")
	}
	b.WriteString(text)
	return b.String()
}

// secretLength returns the length of the secret that text, which begins with
// "tk", seems to begin with; 0 where it does not.
func secretLength(text string) int {
	rest := text[len("tk"):]
	if rest != "" && (rest[0] == 's' || rest[0] == 'i') {
		rest = rest[1:]
	}
	rest, plain := strings.CutPrefix(rest, "_")
	if !plain {
		if len(rest) < 3 || !strings.EqualFold(rest[:3], "%5f") {
			return 0
		}
		rest = rest[3:]
	}
	n := 0
	for n < len(rest) && inSecret(rest[n]) {
		n++
	}
	if n < leastSecret {
		return 0
	}
	return len(text) - len(rest) + n
}

func inSecret(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '_' || c == '-' || c == '%'
}
