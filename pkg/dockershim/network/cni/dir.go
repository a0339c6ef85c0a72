package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/dirwatch"
)

// rescan is how often the configuration directory is read even if no change was reported.
const rescan = 30 * time.Second

// Configuration provides a Driver's network.
type Configuration interface {
	// Network returns the network to attach sandboxes to, or an error that says
	// why there is none.
	Network() (*libcni.NetworkConfigList, error)
}

// Dir is a configuration directory. The network is the first valid one, by name, of its
// *.conf, *.conflist and *.json files, as for the kubelet.
type Dir struct {
	path string

	mu      sync.Mutex
	network *libcni.NetworkConfigList
	err     error
}

// NewDir reads the directory once. It need not exist yet.
func NewDir(path string) *Dir {
	d := &Dir{path: path}
	d.load()
	return d
}

// Network implements Configuration. It returns what was found when the directory last changed.
func (d *Dir) Network() (*libcni.NetworkConfigList, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.network, d.err
}

// Run follows the directory until ctx ends.
func (d *Dir) Run(ctx context.Context) error {
	watch := dirwatch.New()
	defer watch.Close()
	if err := watch.Err(); err != nil {
		klog.ErrorS(err, "The CNI configuration directory is not watched, scanning instead", "path", d.path, "every", rescan)
	}
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	for {
		// A directory that was missing or has been replaced needs a new watch.
		if !watch.Has(d.path) {
			if err := watch.Add(d.path); err == nil {
				d.load()
			} else if err := watch.Add(filepath.Dir(d.path)); err != nil {
				klog.V(4).InfoS("CNI configuration directory cannot be watched yet", "path", d.path, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Events():
			d.load()
		case err := <-watch.Errors():
			klog.ErrorS(err, "Watch of the CNI configuration failed, scanning instead", "path", d.path)
		case <-tick.C:
			d.load()
		}
	}
}

func (d *Dir) load() {
	network, err := readDir(d.path)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && (d.err == nil || d.err.Error() != err.Error()):
		klog.InfoS("No CNI network", "reason", err)
	case err == nil && (d.network == nil || string(d.network.Bytes) != string(network.Bytes)):
		klog.V(2).InfoS("CNI network", "name", network.Name, "path", d.path)
	}
	d.network, d.err = network, err
}

// readDir returns the first valid network of a directory, in the order of names.
func readDir(path string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(path, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, fmt.Errorf("read CNI configuration %s: %w", path, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no network configuration in %s", path)
	}
	slices.Sort(files)
	var invalid []error
	for _, f := range files {
		list, err := readFile(f)
		if err == nil {
			return list, nil
		}
		invalid = append(invalid, err)
	}
	return nil, fmt.Errorf("no valid network configuration in %s: %w", path, errors.Join(invalid...))
}

func readFile(name string) (*libcni.NetworkConfigList, error) {
	var list *libcni.NetworkConfigList
	var err error
	if filepath.Ext(name) == ".conflist" {
		list, err = libcni.ConfListFromFile(name)
		if err == nil {
			list.Bytes, err = inlined(list)
		}
	} else {
		var conf *libcni.NetworkConfig
		//lint:ignore SA1019 single-plug-in files are deprecated, not gone: nodes still have them
		conf, err = libcni.ConfFromFile(name)
		if err == nil && conf.Network.Type == "" {
			err = errors.New("no plug-in type")
		}
		if err == nil {
			//lint:ignore SA1019 as above
			list, err = libcni.ConfListFromConf(conf)
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case len(list.Plugins) == 0:
		return nil, fmt.Errorf("%s: no plug-ins", name)
	}
	return list, nil
}

// inlined returns the text of a list with all its plug-ins. libcni adds those that are files of a
// directory named after the network, but what is kept to call DEL by, in a record or in libcni's
// cache, is the text.
func inlined(list *libcni.NetworkConfigList) ([]byte, error) {
	var text map[string]any
	if err := json.Unmarshal(list.Bytes, &text); err != nil {
		return nil, err
	}
	plugins := make([]json.RawMessage, len(list.Plugins))
	for i, p := range list.Plugins {
		plugins[i] = p.Bytes
	}
	text["plugins"], text["loadOnlyInlinedPlugins"] = plugins, true
	return json.Marshal(text)
}
