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

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

const (
	prefix    = "sha256-"
	temporary = ".new" // durable.Write's
)

// fileName returns the name of the file for that image, or image ID, in its
// directory.
func fileName(of string) string { return fmt.Sprintf("%s%x", prefix, sha256.Sum256([]byte(of))) }

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: kubeletconfig.SchemeGroupVersion.String()}
}

// load reads the records in a directory, which it makes if need be. A record that
// cannot be read is returned as the zero value: something was pulled.
func load[T any](dir, kind string, meta func(*T) metav1.TypeMeta) (map[string]*T, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]*T{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || strings.HasSuffix(e.Name(), temporary) || e.IsDir() {
			continue
		}
		record := new(T)
		path := filepath.Join(dir, e.Name())
		data, err := durable.Read(path)
		if err == nil {
			err = json.Unmarshal(data, record)
		}
		// All of the kubelet's versions have the same fields.
		if m := meta(record); err == nil && (m.Kind != kind || m.GroupVersionKind().Group != kubeletconfig.GroupName) {
			err = fmt.Errorf("it is a %s of %s", m.Kind, m.APIVersion)
		}
		if err != nil {
			klog.ErrorS(err, "Cannot read a record of a pull, the image is used by none without another pull", "path", path)
			record = new(T)
		}
		all[e.Name()] = record
	}
	return all, nil
}

// write replaces the file as a whole or not at all, even if the machine dies.
func write(dir, name string, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, name), data)
}

func remove(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
