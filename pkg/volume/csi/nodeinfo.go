package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"k8s.io/csi-translation-lib/plugins"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

// nodeIDs is the annotation with the node's names at its drivers.
const nodeIDs = "csi.volume.kubernetes.io/nodeid"

// migratedPlugins is what the node says of in-tree drivers that CSI drivers have replaced, as a
// stock one does: the controllers then attach such volumes by the CSI drivers.
const migratedPlugins = plugins.AWSEBSInTreePluginName + "," + plugins.AzureDiskInTreePluginName + "," + plugins.AzureFileInTreePluginName + "," +
	plugins.CinderInTreePluginName + "," + plugins.GCEPDInTreePluginName + "," + plugins.PortworxVolumePluginName + "," + plugins.VSphereInTreePluginName

// migrates says in the CSINode which in-tree drivers CSI drivers have replaced, and reports whether
// it did not.
func migrates(o *storage.CSINode) bool {
	if o.Annotations[v1.MigratedPluginsAnnotationKey] == migratedPlugins {
		return false
	}
	metav1.SetMetaDataAnnotation(&o.ObjectMeta, v1.MigratedPluginsAnnotationKey, migratedPlugins)
	return true
}

// Problems returns why the node is not ready for pods with volumes, in the kubelet's words: its CSINode is not there
// yet, so that the scheduler does not know how many volumes it can have. None on a standalone node.
func (m *Manager) Problems() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problem == "" {
		return nil
	}
	return []string{m.problem}
}

// Settled is closed once it has been tried to make the CSINode: until then Problems knows nothing.
func (m *Manager) Settled() <-chan struct{} { return m.settled }

// tried notes what came of making the CSINode, and reports whether it is the first time.
func (m *Manager) tried(err error) {
	problem := ""
	if err != nil {
		problem = bounds.Cut("failed to initialize CSINode: "+err.Error(), maxTold)
	}
	m.mu.Lock()
	changed := m.problem != problem
	m.problem = problem
	m.mu.Unlock()
	select {
	case <-m.settled:
	default:
		close(m.settled) // only begin gets here
	}
	if changed {
		m.cfg.Changed()
	}
}

// maxTold is how much of an error the node's condition repeats, in bytes.
const maxTold = 1 << 10

// begin makes the node's CSINode, or brings it up to date, before any driver comes: volumes of types
// that drivers have replaced may be on their way here. It tries until it is done or ctx ends.
func (m *Manager) begin(ctx context.Context) {
	if m.cfg.Client == nil {
		return
	}
	var failing logonce.Error
	backOff := wait.Backoff{Duration: firstRetry, Factor: 2, Cap: lastRetry, Steps: math.MaxInt32}
	for {
		if node := m.cfg.Node(); node != nil {
			err := m.change(ctx, node, "", nil)
			if ctx.Err() != nil {
				return
			}
			m.tried(err)
			if err == nil {
				return
			}
			if failing.Note(err) {
				klog.ErrorS(err, "Could not make the CSINode, trying again")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backOff.Step()):
		}
	}
}

// nodeInfo is what a driver says about this node.
type nodeInfo struct {
	id       string
	most     int64 // volumes; 0: no limit
	topology map[string]string
}

// announce adds a driver to the node's CSINode, and its topology to the node's
// labels.
func (m *Manager) announce(ctx context.Context, name string, i nodeInfo) error {
	if m.cfg.Client == nil {
		return nil
	}
	node := m.cfg.Node()
	if node == nil {
		return errors.New("the node object has not been seen yet")
	}
	if err := m.label(ctx, node, name, &i); err != nil {
		return err
	}
	entry := storage.CSINodeDriver{Name: name, NodeID: i.id, TopologyKeys: slices.Sorted(maps.Keys(i.topology))}
	if i.most > 0 {
		entry.Allocatable = &storage.VolumeNodeResources{Count: ptr.To(int32(min(i.most, math.MaxInt32)))}
	}
	return m.change(ctx, node, name, &entry)
}

// withdraw removes a driver from the CSINode and the annotation. Labels stay, as
// with the kubelet: pods were scheduled by them.
func (m *Manager) withdraw(ctx context.Context, name string) error {
	if m.cfg.Client == nil {
		return nil
	}
	node := m.cfg.Node()
	if node == nil {
		return nil
	}
	return errors.Join(m.label(ctx, node, name, nil), m.change(ctx, node, name, nil))
}

// label brings the annotation and labels of the node up to date; a nil i means that
// the driver is gone.
func (m *Manager) label(ctx context.Context, node *v1.Node, name string, i *nodeInfo) error {
	ids := map[string]string{}
	if text := node.Annotations[nodeIDs]; text != "" {
		if err := json.Unmarshal([]byte(text), &ids); err != nil {
			return fmt.Errorf("read annotation %s of the node: %w", nodeIDs, err)
		}
	}
	before := maps.Clone(ids)
	labels := map[string]string{}
	if i == nil {
		delete(ids, name)
	} else {
		ids[name] = i.id
		for k, v := range i.topology {
			have, set := node.Labels[k]
			if set && have != v {
				return fmt.Errorf("detected topology value collision: driver reported %q:%q but existing label is %q:%q", k, v, k, have)
			}
			if !set {
				labels[k] = v
			}
		}
	}
	if maps.Equal(before, ids) && len(labels) == 0 {
		return nil
	}
	annotation := any(nil) // removes it
	if len(ids) > 0 {
		b, err := json.Marshal(ids)
		if err != nil {
			return err
		}
		annotation = string(b)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels, "annotations": map[string]any{nodeIDs: annotation}}})
	if err != nil {
		return err
	}
	_, err = m.cfg.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("label the node with the topology of driver %s: %w", name, err)
	}
	return nil
}

// change replaces a driver's entry in the CSINode, or removes it. The object is
// created if it is missing, and created anew if it belongs to another node of this
// name.
func (m *Manager) change(ctx context.Context, node *v1.Node, name string, entry *storage.CSINodeDriver) error {
	m.object.Lock()
	defer m.object.Unlock()
	objects := m.cfg.Client.StorageV1().CSINodes()
	err := retry.OnError(retry.DefaultBackoff, func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }, func() error {
		o, err := objects.Get(ctx, node.Name, metav1.GetOptions{})
		if err == nil && !slices.ContainsFunc(o.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == node.UID }) {
			if err := objects.Delete(ctx, node.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &o.UID}}); err != nil {
				return err
			}
			return m.create(ctx, node, entry)
		}
		if apierrors.IsNotFound(err) {
			return m.create(ctx, node, entry)
		}
		if err != nil {
			return err
		}
		now := o.DeepCopy()
		now.Spec.Drivers = slices.DeleteFunc(now.Spec.Drivers, func(d storage.CSINodeDriver) bool { return d.Name == name })
		if entry != nil {
			now.Spec.Drivers = append(now.Spec.Drivers, *entry)
		}
		if !migrates(now) && sameDrivers(o.Spec.Drivers, now.Spec.Drivers) {
			return nil
		}
		_, err = objects.Update(ctx, now, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("update CSINode %s: %w", node.Name, err)
	}
	return nil
}

func (m *Manager) create(ctx context.Context, node *v1.Node, entry *storage.CSINodeDriver) error {
	o := &storage.CSINode{ObjectMeta: metav1.ObjectMeta{
		Name:            node.Name,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
	}}
	o.Spec.Drivers = []storage.CSINodeDriver{}
	if entry != nil {
		o.Spec.Drivers = append(o.Spec.Drivers, *entry)
	}
	migrates(o)
	_, err := m.cfg.Client.StorageV1().CSINodes().Create(ctx, o, metav1.CreateOptions{})
	return err
}

// sameDrivers compares without regard to order.
func sameDrivers(a, b []storage.CSINodeDriver) bool {
	index := func(list []storage.CSINodeDriver) map[string]storage.CSINodeDriver {
		all := map[string]storage.CSINodeDriver{}
		for _, d := range list {
			all[d.Name] = d
		}
		return all
	}
	return equality.Semantic.DeepEqual(index(a), index(b))
}
