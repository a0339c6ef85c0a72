package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/source/manifest"
)

// lastGood keeps on disk what each manifest gives, what is kept of documents that have failed
// included. It only serves an agent that starts with a bad manifest, or without any, and has running
// pods from it, so a failure is only logged. Without a directory it keeps nothing.
type lastGood struct {
	dir     string
	pending map[string][]byte // to be written, by path; nil: to be removed
	unread  map[string]bool   // copies that are there and could not be read
}

// keep and forget take effect at flush, so that no snapshot waits for a disk. whole says that no
// document has failed: other content does not replace a copy that could not be read.
func (g *lastGood) keep(path string, content manifest.Content, whole bool) {
	if g.dir == "" || g.unread[path] && !whole {
		return
	}
	data, err := encode(content)
	if err != nil {
		klog.ErrorS(err, "Could not save the manifest", "file", path)
		return
	}
	delete(g.unread, path) // what replaces the copy is known
	g.put(path, data)
}

func (g *lastGood) forget(path string) { g.put(path, nil) }

func (g *lastGood) put(path string, data []byte) {
	if g.dir == "" {
		return
	}
	if g.pending == nil {
		g.pending = map[string][]byte{}
	}
	g.pending[path] = data
}

// content returns what a manifest last gave before this agent started, if it gave anything.
func (g *lastGood) content(from manifest.Origin, node string) (content manifest.Content, ok bool) {
	if g.dir == "" {
		return content, false
	}
	path := from.From
	err := durable.Load(g.name(path), "What a manifest gave when it was last good. While the manifest itself is not, its pods are stopped: mend it.",
		func(text []byte) error {
			_, data, err := unseal(text)
			if errors.Is(err, errUnsealed) { // an agent before this kept the text
				docs := from.WhatRan().Read(text)
				if len(docs) == 0 || slices.ContainsFunc(docs, manifest.Document.Failed) {
					return err
				}
				content = manifest.KeepFailed(manifest.Content{}, docs, node)
				return nil
			}
			if err == nil {
				content, err = decode(data)
			}
			return err
		})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Could not read the saved manifest", "file", path)
		if g.unread == nil {
			g.unread = map[string]bool{}
		}
		g.unread[path] = true
	}
	// The node may have another name now.
	content.Pods = slices.DeleteFunc(content.Pods, func(p *v1.Pod) bool { return p.Spec.NodeName != node })
	return content, err == nil
}

// record is the form in which content is kept. Objects have their kind with them.
type record struct {
	Pods    []*v1.Pod         `json:"pods,omitempty"`
	Objects []json.RawMessage `json:"objects,omitempty"`
}

func encode(content manifest.Content) ([]byte, error) {
	r := record{Pods: content.Pods}
	for _, o := range content.Objects {
		object, ok := o.(runtime.Object)
		if !ok {
			return nil, fmt.Errorf("%T is no object of the API", o)
		}
		kinds, _, err := scheme.Scheme.ObjectKinds(object)
		if err != nil {
			return nil, err
		}
		object = object.DeepCopyObject()
		object.GetObjectKind().SetGroupVersionKind(kinds[0])
		text, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		r.Objects = append(r.Objects, text)
	}
	return json.Marshal(r)
}

func decode(text []byte) (manifest.Content, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return manifest.Content{}, err
	}
	content := manifest.Content{Pods: r.Pods}
	for _, text := range r.Objects {
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
		if err != nil {
			return manifest.Content{}, err
		}
		object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		o, ok := object.(metav1.Object)
		if !ok {
			return manifest.Content{}, fmt.Errorf("%T has no name", object)
		}
		content.Objects = append(content.Objects, o)
	}
	return content, nil
}

// paths are those of the manifests of which there are copies, in order.
func (g *lastGood) paths() []string {
	if g.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Could not list the saved manifests")
	}
	var paths []string
	for _, e := range entries {
		text, err := durable.Read(filepath.Join(g.dir, e.Name()))
		if err != nil {
			continue // content says what is wrong, if the manifest comes
		}
		if path, _, err := unseal(text); err == nil && g.name(path) == filepath.Join(g.dir, e.Name()) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// prune removes what was kept of manifests other than paths: they were removed
// while no agent ran.
func (g *lastGood) prune(paths []string) {
	if g.dir == "" {
		return
	}
	there := map[string]bool{}
	for _, p := range paths {
		there[g.name(p)] = true
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Could not list the saved manifests")
	}
	for _, e := range entries {
		p := filepath.Join(g.dir, e.Name())
		if durable.Temporary(e.Name()) && there[filepath.Join(g.dir, durable.Original(e.Name()))] {
			continue // it was moved aside
		}
		if !there[p] {
			if err := os.Remove(p); err != nil {
				klog.ErrorS(err, "Could not remove a saved manifest")
			}
		}
	}
}

// sealed begins a copy: a manifest that was torn may be a good one of another pod.
const sealed = "# sha256:"

var errUnsealed = errors.New("it does not begin with its checksum")

// seal puts a line before a manifest: the checksum of all that follows, and its path.
func seal(path string, data []byte) []byte {
	rest := slices.Concat([]byte(strconv.Quote(path)+"\n"), data)
	h := sha256.Sum256(rest)
	return slices.Concat([]byte(sealed+hex.EncodeToString(h[:])+" "), rest)
}

func unseal(text []byte) (path string, data []byte, err error) {
	line, data, _ := bytes.Cut(text, []byte("\n"))
	line, ok := bytes.CutPrefix(line, []byte(sealed))
	if !ok {
		return "", nil, errUnsealed
	}
	_, quoted, _ := bytes.Cut(line, []byte(" "))
	if path, err = strconv.Unquote(string(quoted)); err != nil || !bytes.Equal(text, seal(path, data)) {
		return "", nil, errors.New("it is not what was written")
	}
	return path, data, nil
}

func (g *lastGood) name(path string) string {
	h := sha256.Sum256([]byte(path))
	return filepath.Join(g.dir, hex.EncodeToString(h[:16]))
}

func (g *lastGood) flush() {
	if len(g.pending) > 0 {
		_ = durable.MakeWay(g.dir, "Manifests as they were when last good.") // writing says what is wrong
	}
	for path, data := range g.pending {
		var err error
		if data == nil {
			if err = os.Remove(g.name(path)); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		} else if before, e := durable.Read(g.name(path)); e != nil || !bytes.Equal(before, seal(path, data)) {
			err = durable.Write(g.name(path), seal(path, data))
		}
		if err != nil {
			klog.ErrorS(err, "Could not save the manifest", "file", path)
		}
	}
	clear(g.pending)
}
