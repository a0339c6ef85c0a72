package podobjects

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	storage "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

// bindings maps the key of a claim to the name of its persistent volume.
type bindings map[string]string

// claimKey is "namespace/name".
func claimKey(namespace, name string) string { return namespace + "/" + name }

// bind decides which volumes claims have on a standalone node, as the control plane's
// volume controller and scheduler would with this one node (k8s.io/kubernetes,
// pkg/controller/volume/persistentvolume), and why the others have none yet:
//
//   - What was bound before stays bound, whatever documents come or go, as long as the
//     claim or the volume exists: a claim does not move to another volume, and what a
//     claim has written to a volume is shown to no other claim. Only the documents can
//     say otherwise, by volumeName or claimRef.
//   - A claim that names a volume gets that one or none.
//   - A volume that names a claim is for that one only.
//   - Any other claim gets the smallest volume that suits it and the node.
//
// Claims are served in the order of their names, and among volumes of one size the first
// by name is taken, so that the same documents give the same result. The arguments are not
// changed. labels are the node's.
func bind(volumes []*v1.PersistentVolume, claims []*v1.PersistentVolumeClaim, before bindings, labels map[string]string) (now bindings, pending map[string]error) {
	free := make(map[string]*v1.PersistentVolume, len(volumes))
	for _, pv := range volumes {
		available := *pv
		available.Status.Phase = v1.VolumeAvailable
		free[pv.Name] = &available
	}
	now, pending = bindings{}, map[string]error{}
	there := make(map[string]*v1.PersistentVolumeClaim, len(claims))
	for _, c := range claims {
		there[claimKey(c.Namespace, c.Name)] = c
	}
	for key, name := range before {
		if (there[key] != nil || free[name] != nil) && mayStay(key, there[key], name, free[name]) {
			now[key] = name
		}
	}
	taken := map[string]bool{}
	for _, name := range now {
		taken[name] = true
	}
	keys := slices.SortedFunc(maps.Keys(there), func(a, b string) int {
		// Claims that name their volume come first, before others could take it.
		x, y := there[a].Spec.VolumeName != "", there[b].Spec.VolumeName != ""
		switch {
		case x == y:
			return strings.Compare(a, b)
		case x:
			return -1
		}
		return 1
	})
	node := &v1.Node{}
	node.Labels = labels
	for _, key := range keys {
		if _, bound := now[key]; bound {
			continue
		}
		pv, err := choose(there[key], free, taken, node)
		if err != nil {
			pending[key] = err
			continue
		}
		now[key], taken[pv.Name] = pv.Name, true
	}
	return now, pending
}

// mayStay reports whether the claim may keep the volume, by their documents, one of
// which may be missing.
func mayStay(key string, c *v1.PersistentVolumeClaim, volume string, pv *v1.PersistentVolume) bool {
	if c != nil && c.Spec.VolumeName != "" && c.Spec.VolumeName != volume {
		return false
	}
	if pv == nil || pv.Spec.ClaimRef == nil {
		return true
	}
	if c != nil {
		return storage.IsVolumeBoundToClaim(pv, c)
	}
	return key == claimKey(pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name)
}

// choose returns the volume for a claim that has none, or why there is none.
func choose(c *v1.PersistentVolumeClaim, free map[string]*v1.PersistentVolume, taken map[string]bool, node *v1.Node) (*v1.PersistentVolume, error) {
	if name := c.Spec.VolumeName; name != "" {
		pv := free[name]
		switch {
		case pv == nil:
			return nil, fmt.Errorf("persistentvolume %q not found", name)
		case taken[name], pv.Spec.ClaimRef != nil && !storage.IsVolumeBoundToClaim(pv, c):
			return nil, fmt.Errorf("volume %q already bound to a different claim", name)
		}
		if err := satisfies(pv, c); err != nil {
			return nil, fmt.Errorf("cannot bind to requested volume %q: %w", name, err)
		}
		return pv, nil
	}
	var may []*v1.PersistentVolume
	for _, name := range slices.Sorted(maps.Keys(free)) {
		if !taken[name] && storage.CheckAccessModes(c, free[name]) {
			may = append(may, free[name])
		}
	}
	pv, err := storage.FindMatchingVolume(c, may, node, nil, false, true)
	if err != nil || pv != nil {
		return pv, err
	}
	if class := storage.GetPersistentVolumeClaimClass(c); class != "" {
		return nil, fmt.Errorf("no persistent volumes available for this claim, of storage class %q, and a standalone node provisions none", class)
	}
	return nil, errors.New("no persistent volumes available for this claim and no storage class is set")
}

// satisfies returns in the controller's words why a claim cannot have the volume that
// it names.
func satisfies(pv *v1.PersistentVolume, c *v1.PersistentVolumeClaim) error {
	size, request := pv.Spec.Capacity[v1.ResourceStorage], c.Spec.Resources.Requests[v1.ResourceStorage]
	switch {
	case size.Cmp(request) < 0:
		return errors.New("requested PV is too small")
	case storage.GetPersistentVolumeClass(pv) != storage.GetPersistentVolumeClaimClass(c):
		return errors.New("storageClassName does not match")
	case ptr.Deref(pv.Spec.VolumeAttributesClassName, "") != ptr.Deref(c.Spec.VolumeAttributesClassName, ""):
		return errors.New("volumeAttributesClassName does not match")
	case storage.CheckVolumeModeMismatches(&c.Spec, &pv.Spec):
		return errors.New("incompatible volumeMode")
	case !storage.CheckAccessModes(c, pv):
		return errors.New("incompatible accessMode")
	}
	return nil
}

// unsuitable returns why a claim cannot have a volume on this node, "" if it could. holder is the claim that has the volume, "" if
// none has.
func unsuitable(c *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, holder string, node *v1.Node) string {
	size, request := pv.Spec.Capacity[v1.ResourceStorage], c.Spec.Resources.Requests[v1.ResourceStorage]
	class, wanted := storage.GetPersistentVolumeClass(pv), storage.GetPersistentVolumeClaimClass(c)
	switch {
	case c.Spec.VolumeName != "" && c.Spec.VolumeName != pv.Name:
		return "the claim names another"
	case holder != "":
		return "claim " + holder + " has it"
	case pv.Spec.ClaimRef != nil && !storage.IsVolumeBoundToClaim(pv, c):
		return "it is for claim " + claimKey(pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name)
	case size.Cmp(request) < 0:
		return "it has " + size.String() + " only"
	case class != wanted:
		return "its class is " + strconv.Quote(class)
	case !storage.CheckAccessModes(c, pv):
		return fmt.Sprintf("it can be used %v only", pv.Spec.AccessModes)
	}
	if err := satisfies(pv, c); err != nil {
		return err.Error()
	}
	if err := storage.CheckNodeAffinity(pv, node.Labels); err != nil {
		return "it is on another node"
	}
	if c.Spec.Selector != nil {
		if s, err := metav1.LabelSelectorAsSelector(c.Spec.Selector); err == nil && !s.Matches(labels.Set(pv.Labels)) {
			return "its labels are not those that the claim selects"
		}
	}
	return ""
}
