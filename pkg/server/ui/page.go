package ui

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
)

// pageFile is the whole page: it asks for nothing but /bundle, /events, /pods and /teach.
//
//go:embed page.html
var pageFile []byte

// page is a page and its Content-Security-Policy.
type page struct {
	text   []byte
	policy string
}

// newPage allows a page the one script and the one style that are in it, and nothing else.
func newPage(text []byte) (page, error) {
	script, err := digest(text, "script")
	if err != nil {
		return page{}, err
	}
	style, err := digest(text, "style")
	if err != nil {
		return page{}, err
	}
	return page{text, fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; connect-src 'self'; img-src data:; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", script, style)}, nil
}

// digest is what a policy calls the content of the page's only element of that name.
func digest(text []byte, element string) (string, error) {
	begin, end := []byte("<"+element+">"), []byte("</"+element+">")
	_, rest, found := bytes.Cut(text, begin)
	content, rest, closed := bytes.Cut(rest, end)
	if !found || !closed || bytes.Contains(rest, begin) {
		return "", fmt.Errorf("ui: the page has not exactly one <%s>", element)
	}
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'", nil
}

func (p page) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(p.text)))
	w.Header().Set("Connection", "close") // whoever has no token keeps none
	if r.Method != http.MethodHead {
		_, _ = w.Write(p.text) // an error is the browser's connection's
	}
}
