// Package checksum is the kubelet's checksum of its state files, so that it and this agent can take them over from each
// other. It is one of values as spew prints them, with the names of their types: so package and type are named as there.
package checksum

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"k8s.io/utils/dump"
)

// Checksum is of a value.
type Checksum uint64

// ErrMismatch says that a file is not as it was written.
var ErrMismatch = errors.New("checkpoint is corrupted: its checksum does not match")

// Of returns the checksum of a value. renamed are pairs of how types are printed here, and in the kubelet.
func Of(value any, renamed ...string) Checksum {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.NewReplacer(renamed...).Replace(dump.ForHash(value)))) // never fails
	return Checksum(h.Sum32())
}

// Sealed is what kubelets since 1.37 write beside a state: the same as a text with a checksum of its own, which alone
// counts where it is there.
type Sealed struct {
	Data         string   `json:"data"`
	DataChecksum Checksum `json:"dataChecksum"`
}

// Seal returns a text with its checksum.
func Seal(text []byte) Sealed { return Sealed{string(text), Of(string(text))} }

// Open decodes the text, which must be as it was sealed.
func (s Sealed) Open(into any) error {
	if s.DataChecksum != Of(s.Data) {
		return ErrMismatch
	}
	if err := json.Unmarshal([]byte(s.Data), into); err != nil {
		return fmt.Errorf("checkpoint is corrupted: %w", err)
	}
	return nil
}
