package record

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

const prefix = "sha256-"

// fileName returns the name of the file for that image, or image ID, in its
// directory.
func fileName(of string) string { return fmt.Sprintf("%s%x", prefix, sha256.Sum256([]byte(of))) }

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: kubeletconfig.SchemeGroupVersion.String()}
}

// load reads the records in a directory. In the place of a damaged one, an empty one is put:
// that something was pulled is known from the name, and has to stay known.
func load[T any](dir, kind string, meta func(*T) metav1.TypeMeta) (map[string]*T, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]*T{}
	for _, e := range entries {
		// Also if all that is left is what an agent has moved aside before it died.
		name := durable.Original(e.Name())
		if digest, ok := strings.CutPrefix(name, prefix); !ok || len(digest) != sha256.Size*2 || all[name] != nil {
			continue
		}
		record := new(T)
		err := durable.Load(filepath.Join(dir, name), "By which credentials an image was pulled. No pod may use it without another pull.", func(text []byte) error {
			if err := json.Unmarshal(text, record); err != nil {
				return err
			}
			// All of the kubelet's versions have the same fields.
			if m := meta(record); m.Kind != kind || m.GroupVersionKind().Group != kubeletconfig.GroupName {
				return fmt.Errorf("it is a %s of %s", bounds.Cut(m.Kind, quoted), bounds.Cut(m.APIVersion, quoted))
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			record = new(T)
			// In memory the image is closed also when the disk is full.
			if err := write(dir, name, struct {
				metav1.TypeMeta `json:",inline"`
			}{typeMeta(kind)}); err != nil {
				klog.ErrorS(err, "Could not write an empty record in the place of one that is lost", "path", filepath.Join(dir, name))
			}
			err = nil
		}
		if err != nil {
			return nil, err
		}
		all[name] = record
	}
	return all, nil
}

// quoted is how many bytes of what a file holds are repeated in messages.
const quoted = 60

// write replaces the file as a whole or not at all, even if the machine dies.
func write(dir, name string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, name), data)
}

func remove(dir, name string) error {
	for _, p := range durable.Aside(filepath.Join(dir, name)) {
		_ = os.Remove(p) // a directory that is not empty stays, and hinders nothing
	}
	if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
