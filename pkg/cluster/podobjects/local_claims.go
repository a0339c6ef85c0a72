package podobjects

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	storage "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// localClaims holds the claims of the manifests and what they are bound to. The
// bindings are on disk: by the documents alone, a smaller volume that is added later
// could move a claim away from its data. Guarded by Local.mu.
type localClaims struct {
	file    string // of the bindings; "": they are not recorded
	labels  map[string]string
	bound   bindings
	unsaved bool
	answers map[string]claimed // by claimKey
}

// claimed is the answer about a claim of the manifests: the claim and its volume,
// or why it has none.
type claimed struct {
	claim  *v1.PersistentVolumeClaim
	volume *v1.PersistentVolume
	err    error
}

// same reports whether pods see no difference.
func (c claimed) same(d claimed) bool {
	if c.err != nil || d.err != nil {
		return c.err != nil && d.err != nil && c.err.Error() == d.err.Error()
	}
	return c.volume != nil && d.volume != nil && c.claim.UID == d.claim.UID &&
		c.volume.Name == d.volume.Name && equality.Semantic.DeepEqual(c.volume.Spec, d.volume.Spec)
}

// loadBindings reads what earlier agents have bound. Without a record, as when it was
// damaged, the volumes that pods hold say which claims have them.
func loadBindings(file string, held func() ([]*v1.PersistentVolume, error)) (bindings, error) {
	b := bindings{}
	if file == "" {
		return b, nil
	}
	err := durable.Load(file, "Which claims have which volumes. Claims of pods that are set up keep theirs; others are bound anew, "+
		"perhaps to other volumes, unless a volumeName or claimRef in the manifests says to which.", func(text []byte) error { return decodeBindings(text, &b) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return heldBindings(held)
	case err != nil:
		return nil, fmt.Errorf("read which claims have which volumes: %w", err)
	}
	return b, nil
}

func decodeBindings(text []byte, b *bindings) error {
	if err := json.Unmarshal(text, b); err != nil {
		return err
	}
	if *b == nil {
		return errors.New("it holds null")
	}
	return nil
}

// heldBindings are the bindings of the volumes that pods hold. Of two volumes of one claim,
// or two claims of one volume, the first counts, by the volume's name: the record never
// had both.
func heldBindings(held func() ([]*v1.PersistentVolume, error)) (bindings, error) {
	b := bindings{}
	if held == nil {
		return b, nil
	}
	holding, err := held()
	if err != nil {
		return nil, fmt.Errorf("find which volumes pods hold: %w", err)
	}
	volumes := slices.SortedFunc(slices.Values(holding), func(x, y *v1.PersistentVolume) int {
		return cmp.Compare(x.Name, y.Name)
	})
	taken := map[string]bool{}
	for _, pv := range volumes {
		ref := pv.Spec.ClaimRef
		if ref == nil || pv.Name == "" || taken[pv.Name] {
			continue
		}
		if id := claimKey(ref.Namespace, ref.Name); b[id] == "" {
			b[id], taken[pv.Name] = pv.Name, true
		}
	}
	return b, nil
}

// write replaces the file as a whole or not at all, even if the machine dies.
func (b bindings) write(file string) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return durable.Write(file, text)
}

// settle binds what can be bound, once all documents are known, and returns the keys
// of the claims that pods now see differently.
func (l *localClaims) settle(objects map[key]metav1.Object, complete bool) (news map[key]bool) {
	volumes := map[string]*v1.PersistentVolume{}
	var claims []*v1.PersistentVolumeClaim
	for _, o := range objects {
		switch o := o.(type) {
		case *v1.PersistentVolume:
			volumes[o.Name] = o
		case *v1.PersistentVolumeClaim:
			claims = append(claims, o)
		}
	}
	var pending map[string]error
	if complete {
		var now bindings
		now, pending = bind(slices.Collect(maps.Values(volumes)), claims, l.bound, l.labels)
		l.unsaved = l.unsaved || !maps.Equal(now, l.bound)
		l.bound = now
		l.save()
	}
	before := l.answers
	l.answers = make(map[string]claimed, len(claims))
	for _, c := range claims {
		id := claimKey(c.Namespace, c.Name)
		name, bound := l.bound[id]
		switch pv := volumes[name]; {
		case bound && pv != nil:
			l.answers[id] = boundPair(c, pv)
		case !complete:
			l.answers[id] = claimed{err: unread(claim, c.Name)}
		case bound:
			l.answers[id] = claimed{err: fmt.Errorf("PVC is not bound: it has lost its PersistentVolume %q, which no manifest has", name)}
		default:
			l.answers[id] = claimed{err: fmt.Errorf("PVC is not bound: %w", pending[id])}
		}
	}
	news = map[key]bool{}
	for _, o := range claims {
		if id := claimKey(o.Namespace, o.Name); !before[id].same(l.answers[id]) {
			news[key{claim, o.Namespace, o.Name}] = true
		}
	}
	return news
}

// boundPair returns copies of a claim and its volume as the control plane would
// bind them, each saying what it is bound to.
func boundPair(c *v1.PersistentVolumeClaim, pv *v1.PersistentVolume) claimed {
	c, pv = c.DeepCopy(), pv.DeepCopy()
	if c.UID == "" {
		c.UID = types.UID(claimKey(c.Namespace, c.Name))
	}
	c.Spec.VolumeName, c.Status.Phase = pv.Name, v1.ClaimBound
	pv.Spec.ClaimRef, pv.Status.Phase = &v1.ObjectReference{Namespace: c.Namespace, Name: c.Name, UID: c.UID}, v1.VolumeBound
	return claimed{claim: c, volume: pv}
}

// save records the bindings; what cannot be written now is written at the next
// change.
func (l *localClaims) save() {
	if l.file == "" || !l.unsaved {
		return
	}
	if err := l.bound.write(l.file); err != nil {
		klog.ErrorS(err, "Could not save which claims have which volumes", "file", l.file)
		return
	}
	l.unsaved = false
}

// Claim implements volume.Claims: a claim of the manifests that is bound.
func (l *Local) Claim(_ context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.claims.answers[claimKey(namespace, name)]
	switch {
	case ok:
		return c.claim, c.err
	case !l.complete:
		return nil, unread(claim, name)
	}
	return nil, apierrors.NewNotFound(v1.Resource(string(claim)+"s"), name)
}

// Volume implements volume.Claims: a persistent volume of the manifests that a claim
// is bound to.
func (l *Local) Volume(_ context.Context, name string) (*v1.PersistentVolume, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.claims.answers {
		if c.volume != nil && c.volume.Name == name {
			return c.volume, nil
		}
	}
	return nil, apierrors.NewNotFound(v1.Resource(string(volume)+"s"), name)
}

// mostUnsuitable is of how many volumes Unsuitable says why.
const mostUnsuitable = 10

// Unsuitable returns what a claim of the manifests that is not bound asks for, and why it cannot have each of the volumes that there
// are, at most ten. found is false if the manifests have no such claim, or it is bound.
func (l *Local) Unsuitable(namespace, name string) (wants string, volumes []string, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.objects[key{claim, namespace, name}].(*v1.PersistentVolumeClaim)
	if !ok || l.claims.answers[claimKey(namespace, name)].claim != nil {
		return "", nil, false
	}
	holders := map[string]string{}
	for id, pv := range l.claims.bound {
		holders[pv] = id
	}
	var all []*v1.PersistentVolume
	for _, o := range l.objects {
		if pv, ok := o.(*v1.PersistentVolume); ok {
			all = append(all, pv)
		}
	}
	slices.SortFunc(all, func(a, b *v1.PersistentVolume) int { return cmp.Compare(a.Name, b.Name) })
	node := &v1.Node{}
	node.Labels = l.claims.labels
	for _, pv := range all {
		if len(volumes) == mostUnsuitable {
			break
		}
		if why := unsuitable(c, pv, holders[pv.Name], node); why != "" {
			volumes = append(volumes, pv.Name+": "+why)
		}
	}
	request := c.Spec.Resources.Requests[v1.ResourceStorage]
	return fmt.Sprintf("%s of class %q, %v", request.String(), storage.GetPersistentVolumeClaimClass(c), c.Spec.AccessModes), volumes, true
}

// volumeSecrets returns the secrets that a node needs for a persistent volume.
func volumeSecrets(pv *v1.PersistentVolume) []key {
	var all []key
	add := func(refs ...*v1.SecretReference) {
		for _, r := range refs {
			if r != nil {
				all = append(all, key{secret, r.Namespace, r.Name})
			}
		}
	}
	if s := pv.Spec.CSI; s != nil {
		add(s.NodeStageSecretRef, s.NodePublishSecretRef)
	}
	if s := pv.Spec.ISCSI; s != nil {
		add(s.SecretRef)
	}
	return all
}
