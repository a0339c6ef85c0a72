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

// errDamaged is wrapped by errors of a record that says nothing of use, now or later. A crash
// cannot damage a record, but the repair of a full disk can, and so can other hands.
var errDamaged = errors.New("the record is damaged")

// read returns the record of a sandbox. The error is an fs.ErrNotExist when there is none and an
// errDamaged when it is damaged; any other says that it cannot be read at the moment. Its
// result is not looked at.
func (r records) read(id string) (record, error) {
	data, err := durable.Read(r.path(id))
	switch {
	case durable.IsDamage(err):
		return record{}, fmt.Errorf("%w: %w", errDamaged, err)
	case err != nil:
		return record{}, err
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, fmt.Errorf("%w: %s: %w", errDamaged, r.path(id), err)
	}
	switch {
	case rec.Sandbox.ID != id:
		return record{}, fmt.Errorf("%w: %s: it is about sandbox %q", errDamaged, r.path(id), rec.Sandbox.ID)
	case len(rec.Config) == 0:
		return record{}, fmt.Errorf("%w: %s: it has no network", errDamaged, r.path(id))
	}
	return rec, nil
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
