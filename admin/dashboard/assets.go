package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed assets
var embedded embed.FS

const assetPrefix = "/assets/"

// assets are the embedded files under one address that holds their hash.
type assets struct {
	base  string // the address without the last slash
	files map[string]*asset
}

// asset is one file.
type asset struct {
	mediaType string
	content   []byte
	compress  func() []byte // gzip, made once when first asked for
}

// newAssets reads all embedded files that browsers ask for.
func newAssets() (*assets, error) {
	found := &assets{files: map[string]*asset{}}
	sum := sha256.New()
	err := fs.WalkDir(embedded, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		mediaType := mediaTypeOf(name)
		if mediaType == "" {
			return nil // a licence
		}
		content, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, ".iife.min.js") {
			// Published as a script that names one global; a module exports
			// it, so that it is loaded only where it is needed.
			content = append(content, "\nexport default uPlot;\n"...)
		}
		name = strings.TrimPrefix(name, "assets/")
		fmt.Fprintf(sum, "%s %d\n", name, len(content))
		sum.Write(content)
		found.files[name] = &asset{mediaType, content, sync.OnceValue(func() []byte { return compressed(content) })}
		return nil
	})
	found.base = assetPrefix + hex.EncodeToString(sum.Sum(nil)[:8])
	return found, err
}

func mediaTypeOf(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return ""
}

func compressed(content []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil
	}
	if _, err := w.Write(content); err != nil {
		return nil
	}
	if err := w.Close(); err != nil {
		return nil
	}
	return out.Bytes()
}

// modules returns the addresses of all modules that the first page needs, for
// the browser to fetch at once instead of one import after the other.
func (a *assets) modules() []string {
	var addresses []string
	for name := range a.files {
		if strings.HasSuffix(name, ".js") && !strings.Contains(name, "/") && name != "theme.js" {
			addresses = append(addresses, a.base+"/"+name)
		}
	}
	slices.Sort(addresses)
	return addresses
}

// serve answers with one file, which may be kept for good.
func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	name, found := strings.CutPrefix(r.URL.Path, a.base+"/")
	file := a.files[name]
	if !found || file == nil {
		// Of another version: a page that was open during an upgrade asks.
		notFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Content-Type", file.mediaType)
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("Vary", "Accept-Encoding")
	content := file.content
	if acceptsGzip(r.Header.Get("Accept-Encoding")) {
		if small := file.compress(); small != nil && len(small) < len(content) {
			header.Set("Content-Encoding", "gzip")
			content = small
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(content)))
	_, _ = w.Write(content)
}

// acceptsGzip reports whether an Accept-Encoding header names gzip without
// refusing it by a weight of zero.
func acceptsGzip(accepted string) bool {
	for part := range strings.SplitSeq(accepted, ",") {
		coding, parameters, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		weight, found := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
		value, err := strconv.ParseFloat(weight, 64)
		return !found || err != nil || value > 0
	}
	return false
}
