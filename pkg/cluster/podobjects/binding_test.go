package podobjects

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

// aVolume is a volume of a size, possibly changed.
func aVolume(name, size string, change ...func(*v1.PersistentVolume)) *v1.PersistentVolume {
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pv.Spec.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
	pv.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}
	pv.Spec.HostPath = &v1.HostPathVolumeSource{Path: "/" + name}
	for _, c := range change {
		c(pv)
	}
	return pv
}

// aClaim is a claim in the namespace "ns" for that size.
func aClaim(name, size string, change ...func(*v1.PersistentVolumeClaim)) *v1.PersistentVolumeClaim {
	c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	c.Spec.Resources.Requests = v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
	c.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}
	for _, f := range change {
		f(c)
	}
	return c
}

func forClaim(name, uid string) func(*v1.PersistentVolume) {
	return func(pv *v1.PersistentVolume) {
		pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "ns", Name: name, UID: types.UID(uid)}
	}
}

func onHost(name string) func(*v1.PersistentVolume) {
	return func(pv *v1.PersistentVolume) {
		pv.Spec.NodeAffinity = &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{
			{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{name}},
		}}}}}
	}
}

func thatNames(volume string) func(*v1.PersistentVolumeClaim) {
	return func(c *v1.PersistentVolumeClaim) { c.Spec.VolumeName = volume }
}

func TestBind(t *testing.T) {
	type volumes = []*v1.PersistentVolume
	type claims = []*v1.PersistentVolumeClaim
	block := v1.PersistentVolumeBlock
	shared := []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce, v1.ReadWriteMany}
	class := func(pv *v1.PersistentVolume) { pv.Spec.StorageClassName = "fast" }
	ofClass := func(c *v1.PersistentVolumeClaim) { c.Spec.StorageClassName = ptr.To("fast") }
	const none = "no persistent volumes available for this claim and no storage class is set"
	for name, tt := range map[string]struct {
		volumes volumes
		claims  claims
		before  bindings
		want    bindings
		pending string // of claim ns/a
	}{
		"smallest that is large enough": {
			volumes{aVolume("small", "1Gi"), aVolume("large", "9Gi"), aVolume("fits", "3Gi")}, claims{aClaim("a", "2Gi")}, nil, bindings{"ns/a": "fits"}, ""},
		"first of one size": {volumes{aVolume("z", "1Gi"), aVolume("b", "1Gi"), aVolume("y", "1Gi")}, claims{aClaim("a", "1Gi")}, nil, bindings{"ns/a": "b"}, ""},
		"claims in the order of their names": {
			volumes{aVolume("v", "1Gi"), aVolume("w", "2Gi")}, claims{aClaim("b", "1Gi"), aClaim("a", "1Gi")}, nil, bindings{"ns/a": "v", "ns/b": "w"}, ""},
		"nothing there":       {nil, claims{aClaim("a", "1Gi")}, nil, bindings{}, none},
		"nothing as large":    {volumes{aVolume("v", "1Gi")}, claims{aClaim("a", "2Gi")}, nil, bindings{}, none},
		"one volume, one use": {volumes{aVolume("v", "1Gi")}, claims{aClaim("a", "1Gi"), aClaim("Z", "1Gi")}, nil, bindings{"ns/Z": "v"}, none},
		"class":               {volumes{aVolume("plain", "1Gi"), aVolume("v", "2Gi", class)}, claims{aClaim("a", "1Gi", ofClass)}, nil, bindings{"ns/a": "v"}, ""},
		"no class":            {volumes{aVolume("v", "2Gi", class)}, claims{aClaim("a", "1Gi")}, nil, bindings{}, none},
		"class of none": {volumes{aVolume("v", "2Gi")}, claims{aClaim("a", "1Gi", ofClass)}, nil, bindings{},
			`no persistent volumes available for this claim, of storage class "fast", and a standalone node provisions none`},
		"access modes": {volumes{aVolume("v", "1Gi"), aVolume("w", "2Gi", func(pv *v1.PersistentVolume) { pv.Spec.AccessModes = shared })},
			claims{aClaim("a", "1Gi", func(c *v1.PersistentVolumeClaim) { c.Spec.AccessModes = shared[1:] })}, nil, bindings{"ns/a": "w"}, ""},
		"volume mode": {volumes{aVolume("v", "1Gi"), aVolume("w", "2Gi", func(pv *v1.PersistentVolume) { pv.Spec.VolumeMode = &block })},
			claims{aClaim("a", "1Gi", func(c *v1.PersistentVolumeClaim) { c.Spec.VolumeMode = &block })}, nil, bindings{"ns/a": "w"}, ""},
		"selector": {volumes{aVolume("v", "1Gi"), aVolume("w", "2Gi", func(pv *v1.PersistentVolume) { pv.Labels = map[string]string{"k": "v"} })},
			claims{aClaim("a", "1Gi", func(c *v1.PersistentVolumeClaim) {
				c.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"k": "v"}}
			})}, nil, bindings{"ns/a": "w"}, ""},
		"node":              {volumes{aVolume("v", "1Gi", onHost("other")), aVolume("w", "2Gi", onHost("here"))}, claims{aClaim("a", "1Gi")}, nil, bindings{"ns/a": "w"}, ""},
		"for another claim": {volumes{aVolume("v", "1Gi", forClaim("b", ""))}, claims{aClaim("a", "1Gi")}, nil, bindings{}, none},
		"for the claim": {volumes{aVolume("v", "1Gi"), aVolume("w", "9Gi", class, forClaim("a", ""))}, claims{aClaim("a", "1Gi")}, nil,
			bindings{"ns/a": "w"}, ""},
		"for a claim of the name before": {volumes{aVolume("v", "1Gi", forClaim("a", "gone"))}, claims{aClaim("a", "1Gi")}, nil, bindings{}, none},
		"for the claim of that UID": {volumes{aVolume("v", "1Gi", forClaim("a", "u"))},
			claims{aClaim("a", "1Gi", func(c *v1.PersistentVolumeClaim) { c.UID = "u" })}, nil, bindings{"ns/a": "v"}, ""},
		"for the claim, on another node": {volumes{aVolume("v", "1Gi"), aVolume("w", "1Gi", forClaim("a", ""), onHost("other"))}, claims{aClaim("a", "1Gi")}, nil,
			bindings{}, none},
		"volume that is named": {volumes{aVolume("v", "1Gi"), aVolume("w", "9Gi")}, claims{aClaim("a", "1Gi", thatNames("w"))}, nil, bindings{"ns/a": "w"}, ""},
		"named before chosen": {volumes{aVolume("v", "1Gi"), aVolume("w", "9Gi")}, claims{aClaim("a", "1Gi"), aClaim("b", "1Gi", thatNames("v"))}, nil,
			bindings{"ns/a": "w", "ns/b": "v"}, ""},
		"named and missing":          {volumes{aVolume("v", "1Gi")}, claims{aClaim("a", "1Gi", thatNames("w"))}, nil, bindings{}, `persistentvolume "w" not found`},
		"named and too small":        {volumes{aVolume("w", "1Gi")}, claims{aClaim("a", "2Gi", thatNames("w"))}, nil, bindings{}, `cannot bind to requested volume "w": requested PV is too small`},
		"named, of another class":    {volumes{aVolume("w", "1Gi", class)}, claims{aClaim("a", "1Gi", thatNames("w"))}, nil, bindings{}, `cannot bind to requested volume "w": storageClassName does not match`},
		"named, for another claim":   {volumes{aVolume("w", "1Gi", forClaim("b", ""))}, claims{aClaim("a", "1Gi", thatNames("w"))}, nil, bindings{}, `volume "w" already bound to a different claim`},
		"named by two":               {volumes{aVolume("w", "1Gi")}, claims{aClaim("a", "1Gi", thatNames("w")), aClaim("A", "1Gi", thatNames("w"))}, nil, bindings{"ns/A": "w"}, `volume "w" already bound to a different claim`},
		"stays beside a smaller one": {volumes{aVolume("v", "9Gi"), aVolume("w", "1Gi")}, claims{aClaim("a", "1Gi")}, bindings{"ns/a": "v"}, bindings{"ns/a": "v"}, ""},
		"stays beside a claim that comes first": {volumes{aVolume("v", "1Gi")}, claims{aClaim("a", "1Gi"), aClaim("b", "1Gi")}, bindings{"ns/b": "v"},
			bindings{"ns/b": "v"}, none},
		"volume of a claim that has gone":   {volumes{aVolume("v", "1Gi")}, claims{aClaim("a", "1Gi")}, bindings{"ns/gone": "v"}, bindings{"ns/gone": "v"}, none},
		"claim of a volume that has gone":   {volumes{aVolume("v", "1Gi")}, claims{aClaim("a", "1Gi")}, bindings{"ns/a": "gone"}, bindings{"ns/a": "gone"}, ""},
		"both have gone":                    {nil, nil, bindings{"ns/a": "v"}, bindings{}, ""},
		"given to another claim":            {volumes{aVolume("v", "1Gi", forClaim("a", ""))}, claims{aClaim("a", "1Gi")}, bindings{"ns/gone": "v"}, bindings{"ns/a": "v"}, ""},
		"claim that now names another":      {volumes{aVolume("v", "1Gi"), aVolume("w", "1Gi")}, claims{aClaim("a", "1Gi", thatNames("w"))}, bindings{"ns/a": "v"}, bindings{"ns/a": "w"}, ""},
		"bound, and meanwhile too small":    {volumes{aVolume("v", "1Gi"), aVolume("w", "9Gi")}, claims{aClaim("a", "5Gi")}, bindings{"ns/a": "v"}, bindings{"ns/a": "v"}, ""},
		"bound by name, which is kept also": {volumes{aVolume("v", "1Gi")}, claims{aClaim("a", "1Gi", thatNames("v"))}, bindings{"ns/a": "v"}, bindings{"ns/a": "v"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			labels := map[string]string{v1.LabelHostname: "here"}
			now, pending := bind(tt.volumes, tt.claims, tt.before, labels)
			if !maps.Equal(now, tt.want) {
				t.Errorf("bound %v, want %v", now, tt.want)
			}
			why := ""
			if err := pending["ns/a"]; err != nil {
				why = err.Error()
			}
			if why != tt.pending {
				t.Errorf("claim a waits: %q, want %q", why, tt.pending)
			}
			// Decisions stay, whatever the order of the documents.
			slices.Reverse(tt.volumes)
			slices.Reverse(tt.claims)
			if again, _ := bind(tt.volumes, tt.claims, tt.before, labels); !maps.Equal(again, now) {
				t.Errorf("in another order %v", again)
			}
			if again, _ := bind(tt.volumes, tt.claims, now, labels); !maps.Equal(again, now) {
				t.Errorf("and then %v", again)
			}
		})
	}
}

// claimUser is a pod that has a claim.
func claimUser(claim string) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: claim, UID: types.UID("of-" + claim)}}
	p.Spec.Volumes = []v1.Volume{{VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}}
	return p
}

func TestLocalGivesClaimsAndTellsTheirPods(t *testing.T) {
	var told []string
	file := filepath.Join(t.TempDir(), "dir", "bindings")
	config := LocalConfig{Bindings: file, Labels: map[string]string{v1.LabelHostname: "here"}, Changed: func(pods []types.UID) {
		for _, uid := range pods {
			told = append(told, string(uid))
		}
	}}
	l := newLocal(t, config)
	l.Register(claimUser("a"))
	l.Register(claimUser("b"))
	ask := func(name string) string {
		c, err := l.Claim(t.Context(), "ns", name)
		if err != nil {
			return err.Error()
		}
		pv, err := l.Volume(t.Context(), c.Spec.VolumeName)
		if err != nil {
			return err.Error()
		}
		if c.Status.Phase != v1.ClaimBound || pv.Spec.ClaimRef.UID != c.UID || pv.Spec.ClaimRef.Name != name || c.UID == "" {
			t.Errorf("claim %+v and volume %+v", c, pv)
		}
		return pv.Name
	}
	withSecret := func(pv *v1.PersistentVolume) {
		pv.Spec.PersistentVolumeSource = v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{NodeStageSecretRef: &v1.SecretReference{Namespace: "ns", Name: "s"}}}
	}
	const none, unread = "PVC is not bound: no persistent volumes available for this claim and no storage class is set", "is not known yet: not all manifests have been read"
	step := func(what string, all []metav1.Object, complete bool, wantTold, a, b string) {
		t.Helper()
		told = nil
		l.Set(all, complete)
		slices.Sort(told)
		if got := strings.Join(told, " "); got != wantTold {
			t.Errorf("%s: told %q, want %q", what, got, wantTold)
		}
		if gotA, gotB := ask("a"), ask("b"); gotA != a || gotB != b {
			t.Errorf("%s: a %q, b %q; want %q, %q", what, gotA, gotB, a, b)
		}
	}
	a, b := aClaim("a", "1Gi"), aClaim("b", "1Gi")
	v, w := aVolume("v", "5Gi"), aVolume("w", "1Gi")
	claimUnread := func(name string) string { return fmt.Sprintf("persistentvolumeclaim %q %s", name, unread) }
	step("not all is read: nothing is bound", []metav1.Object{a, v}, false, "of-a", claimUnread("a"), claimUnread("b"))
	step("all is read", []metav1.Object{a, v}, true, "of-a of-b", "v", `persistentvolumeclaims "b" not found`)
	step("another claim", []metav1.Object{a, b, v}, true, "of-b", "v", none)
	step("and its volume, the smaller one", []metav1.Object{a, b, v, w}, true, "of-b", "v", "w")
	step("the same again", []metav1.Object{w, b, v, a}, true, "", "v", "w")
	step("a claim has gone", []metav1.Object{b, v, w}, true, "of-a", `persistentvolumeclaims "a" not found`, "w")
	step("and is back", []metav1.Object{a, b, v, w}, true, "of-a", "v", "w")
	step("a volume has gone", []metav1.Object{a, b, w}, true, "of-a", `PVC is not bound: it has lost its PersistentVolume "v", which no manifest has`, "w")
	step("and is another", []metav1.Object{a, b, aVolume("v", "5Gi", withSecret), w}, true, "of-a", "v", "w")
	step("whose secret comes", []metav1.Object{a, b, aVolume("v", "5Gi", withSecret), w, localSecret("s", "x")}, true, "of-a", "v", "w")

	l = newLocal(t, config) // a new agent
	step("what was bound is, before all is read", []metav1.Object{a, v}, false, "", "v", claimUnread("b"))
	step("and after", []metav1.Object{a, b, v, w, aVolume("0", "1Gi")}, true, "", "v", "w")
	if _, err := l.Volume(t.Context(), "0"); !apierrors.IsNotFound(err) {
		t.Errorf("a volume of nobody: %v", err)
	}
}

// A damaged record costs a claim that a pod uses nothing: it keeps its volume, though by the
// documents alone it would get another, and this is on record again.
func TestADamagedRecordIsRebuiltOfWhatPodsHold(t *testing.T) {
	a, b := aClaim("a", "1Gi"), aClaim("b", "1Gi")
	documents := []metav1.Object{a, b, aVolume("big", "5Gi"), aVolume("small", "1Gi"), aVolume("small-too", "1Gi")}
	hold := func(name, claim string) *v1.PersistentVolume {
		pv := aVolume(name, "5Gi")
		pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "ns", Name: claim}
		return pv
	}
	place := func(t *testing.T) string {
		file := filepath.Join(t.TempDir(), "claims.json")
		newLocal(t, LocalConfig{Bindings: file}).Set([]metav1.Object{a, aVolume("big", "5Gi")}, true)
		return file
	}
	damage.Each(t, place, func(t *testing.T, file string) {
		for range 2 { // the second has the new record
			l := newLocal(t, LocalConfig{Bindings: file, Held: func() ([]*v1.PersistentVolume, error) {
				return []*v1.PersistentVolume{hold("big", "a"), hold("later", "a"), hold("big", "b"), aVolume("unbound", "1Gi")}, nil
			}})
			l.Set(documents, true)
			for claim, want := range map[string]string{"a": "big", "b": "small"} {
				if c, err := l.Claim(t.Context(), "ns", claim); err != nil || c.Spec.VolumeName != want {
					t.Errorf("%s has %v, %v; want %s", claim, c, err, want)
				}
			}
		}
	})
}

// Without its record and without knowing what pods hold, a claim could get another's volume.
func TestWithoutWhatPodsHoldNothingIsBound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "claims.json")
	_, err := NewLocal(LocalConfig{Bindings: file, Held: func() ([]*v1.PersistentVolume, error) { return nil, unix.EIO }})
	if !errors.Is(err, unix.EIO) {
		t.Errorf("error %v", err)
	}
}

func TestUnsuitableVolumesOfAClaim(t *testing.T) {
	l := newLocal(t, LocalConfig{Labels: map[string]string{v1.LabelHostname: "here"}})
	ofClass := func(pv *v1.PersistentVolume) { pv.Spec.StorageClassName = "fast" }
	block := v1.PersistentVolumeBlock
	all := []metav1.Object{
		aClaim("a", "2Gi"), aClaim("taken", "50Gi", thatNames("held")),
		aVolume("small", "1Gi"), aVolume("class", "9Gi", ofClass), aVolume("away", "9Gi", onHost("other")), aVolume("held", "50Gi"), aVolume("theirs", "9Gi", forClaim("c", "")),
		aVolume("block", "9Gi", func(pv *v1.PersistentVolume) { pv.Spec.VolumeMode = &block }),
		aVolume("modes", "9Gi", func(pv *v1.PersistentVolume) {
			pv.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadOnlyMany}
		}),
	}
	l.Set(all, true)
	wants, volumes, found := l.Unsuitable("ns", "a")
	want := []string{
		"away: it is on another node", "block: incompatible volumeMode", `class: its class is "fast"`, "held: claim ns/taken has it", "modes: it can be used [ReadOnlyMany] only",
		"small: it has 1Gi only", "theirs: it is for claim ns/c",
	}
	if !found || wants != `2Gi of class "", [ReadWriteOnce]` || !slices.Equal(volumes, want) {
		t.Errorf("it wants %s, and %q\nwant %q", wants, volumes, want)
	}
	for _, name := range []string{"taken", "nobody"} {
		if _, _, found := l.Unsuitable("ns", name); found {
			t.Errorf("claim %s has no volume", name)
		}
	}
	l.Set(append(all, aVolume("fits", "9Gi")), true)
	if _, _, found := l.Unsuitable("ns", "a"); found {
		t.Error("a claim that is bound has no volume")
	}
}
