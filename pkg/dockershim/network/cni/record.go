package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/dockerid"
)

// record is what is known of an attachment, enough to delete it when nothing else is left.
type record struct {
	Sandbox Sandbox         `json:"sandbox"`
	Config  json.RawMessage `json:"config"` // the network's configuration list at ADD
	// Result of a finished ADD; empty while ADD runs or after it failed.
	Result json.RawMessage `json:"result,omitempty"`
}

// records is a directory with one file per attached sandbox.
type records struct{ dir string }

func (r records) path(id string) string { return filepath.Join(r.dir, id+".json") }

func (r records) write(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("record attachment of %s: %w", rec.Sandbox.ID, err)
	}
	if err := durable.Write(r.path(rec.Sandbox.ID), data); err != nil {
		return fmt.Errorf("record attachment of %s: %w", rec.Sandbox.ID, err)
	}
	return nil
}

// read returns the record of a sandbox; ok is false when there is none or it is torn. A crash
// cannot leave a torn record, but the repair of a full disk can.
func (r records) read(id string) (rec record, ok bool) {
	data, err := durable.Read(r.path(id))
	if err != nil || json.Unmarshal(data, &rec) != nil || rec.Sandbox.ID != id || len(rec.Config) == 0 {
		return record{}, false
	}
	return rec, true
}

func (r records) remove(id string) error {
	if err := os.Remove(r.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of attachment: %w", err)
	}
	return nil
}

// ids returns the sandboxes that have a record, whole or torn.
func (r records) ids() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list records of attachments: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && dockerid.Named(e) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
