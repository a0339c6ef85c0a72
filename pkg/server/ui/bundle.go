package ui

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal/gate"
	"github.com/mini-kubelet/mini-kubelet/pkg/server"
)

// Bundle is what `mini-kubelet bundle` has written, shown in place of an agent. Nobody looks into it but the page, which trusts
// nothing of it.
type Bundle struct {
	Name    string // shown
	Content []byte
}

// Journal implements Agent: it tells the page to ask for the bundle.
func (b *Bundle) Journal(context.Context, string) (io.ReadCloser, error) {
	name, err := json.Marshal(b.Name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader("event: file\ndata: " + string(name) + "\n\n")), nil
}

// Pods implements Agent.
func (b *Bundle) Pods(context.Context) ([]v1.Pod, error) { return nil, errNoAgent }

// Teach implements Agent.
func (b *Bundle) Teach(context.Context, *server.TeachRequest) (*gate.State, error) {
	return nil, errNoAgent
}

var errNoAgent = errors.New("a bundle is shown, and no agent")

func (b *Bundle) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/gzip")
	_, _ = w.Write(b.Content) // the browser's connection
}
