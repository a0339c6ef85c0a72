package volume

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mini-kubelet/mini-kubelet/pkg/volume/csi"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

// growing is a node with a pod whose claim's volume grows.
type growingNode struct {
	*Manager
	t       *testing.T
	drivers *csiFake
	pod     *v1.Pod

	mu        sync.Mutex
	api       *claimsFake
	conflicts int // so many patches fail
	events    []string
	past      time.Duration // how far the clock was turned
}

// Look implements ClaimStatuses.
func (n *growingNode) Look(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.api.Claim(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return c.DeepCopy(), nil
}

// PatchStatus implements ClaimStatuses.
func (n *growingNode) PatchStatus(_ context.Context, _, now *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conflicts > 0 {
		n.conflicts--
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "persistentvolumeclaims"}, now.Name, errors.New("it has changed"))
	}
	n.api.claims["ns/data"].Status = now.Status
	return now, nil
}

// enlarge is what the controller does.
func (n *growingNode) enlarge(size string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, list := n.api.claims["ns/data"], v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
	n.api.volumes["pv"].Spec.Capacity = list
	c.Spec.Resources.Requests = list
	c.Status.AllocatedResources = list
	c.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: v1.PersistentVolumeClaimNodeResizePending}
	c.Status.Conditions = []v1.PersistentVolumeClaimCondition{{Type: v1.PersistentVolumeClaimFileSystemResizePending, Status: v1.ConditionTrue}}
}

// status is the claim's: its capacity, what is said of its size, and its conditions.
func (n *growingNode) status() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.api.claims["ns/data"].Status
	all := []string{s.Capacity.Storage().String(), string(s.AllocatedResourceStatuses[v1.ResourceStorage])}
	for _, c := range s.Conditions {
		all = append(all, string(c.Type))
	}
	return strings.Join(all, " ")
}

func (n *growingNode) event(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, text)
}

func (n *growingNode) said() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	said := n.events
	n.events = nil
	return said
}

func (n *growingNode) expansions() (all []string) {
	n.drivers.mu.Lock()
	defer n.drivers.mu.Unlock()
	for _, c := range n.drivers.calls {
		if strings.HasPrefix(c, "expand") {
			all = append(all, c)
		}
	}
	return all
}

// later turns the clock and syncs the pod.
func (n *growingNode) later(by time.Duration) {
	n.mu.Lock()
	n.past += by
	n.mu.Unlock()
	setUp(n.t, n.Manager, n.pod)
}

func newGrowingNode(t *testing.T, size string) *growingNode {
	n := &growingNode{t: t, drivers: &csiFake{}, pod: podOfClaim(false)}
	n.pod.Spec.NodeName = "n1"
	n.api = boundClaim(v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}})
	list := v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
	n.api.claims["ns/data"].Status.Capacity, n.api.claims["ns/data"].Spec.Resources.Requests = list, list
	n.api.volumes["pv"].Spec.Capacity = list
	n.Manager = newManager(t, Config{
		CSI: n.drivers, Claims: n.api, Warn: func(_ *v1.Pod, reason, message string) { n.event("Warning " + reason + ": " + message) },
		Growth: &Growth{
			Claims: n,
			Normal: func(_ *v1.Pod, reason, message string) { n.event("Normal " + reason + ": " + message) },
			Event: func(c *v1.PersistentVolumeClaim, kind, reason, message string) {
				n.event(fmt.Sprintf("%s of %s %s: %s", kind, c.Name, reason, message))
			},
		},
	})
	n.growth.now = func() time.Time {
		n.mu.Lock()
		defer n.mu.Unlock()
		return time.Now().Add(n.past)
	}
	testrun.Start(t, n.Run)
	return n
}

const done = `MountVolume.NodeExpandVolume succeeded for volume "pv" n1`

func grown() []string {
	return []string{"Normal FileSystemResizeSuccessful: " + done, "Normal of data FileSystemResizeSuccessful: " + done}
}

func TestAVolumeGrowsBeforeItsPodStarts(t *testing.T) {
	n := newGrowingNode(t, "1Ki")
	n.enlarge("2Ki")
	n.drivers.setFull(errors.New("no room"))
	for range 2 {
		err := n.SetUp(t.Context(), n.pod)
		if err == nil || !strings.HasSuffix(err.Error(), "MountVolume.Setup failed while expanding volume: no room") {
			t.Fatalf("error %v", err)
		}
	}
	if got := n.status(); got != "1Ki NodeResizeInProgress FileSystemResizePending NodeResizeError" {
		t.Errorf("status %s", got)
	}
	n.drivers.setFull(nil)
	setUp(t, n.Manager, n.pod)
	if got := n.status(); got != "2Ki " {
		t.Errorf("status %q", got)
	}
	if got := n.expansions(); !slices.Equal(got, slices.Repeat([]string{"expand pv to 2048"}, 3)) {
		t.Errorf("calls %q", got)
	}
	if got := n.said(); !slices.Equal(got, grown()) {
		t.Errorf("events %q", got)
	}
	n.later(time.Minute)
	if got := n.expansions(); len(got) != 3 {
		t.Errorf("calls %q", got)
	}
}

func TestAVolumeThatIsReadOnlyOrInUseIsMountedAsItIs(t *testing.T) {
	n := newGrowingNode(t, "1Ki")
	n.enlarge("2Ki")
	n.pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
	setUp(t, n.Manager, n.pod)
	const refused = `FileSystemResizeFailed: MountVolume.NodeExpandVolume failed for volume "pv" requested read-only file system`
	if got := n.said(); !slices.Equal(got, []string{"Warning " + refused, "Warning of data " + refused}) {
		t.Errorf("events %q", got)
	}

	n = newGrowingNode(t, "1Ki")
	n.enlarge("2Ki")
	n.drivers.setFull(csi.ErrInUse)
	setUp(t, n.Manager, n.pod)
	n.later(time.Hour)
	if got := n.expansions(); len(got) != 1 {
		t.Errorf("calls %q", got)
	}
	if got := n.said(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning VolumeResizeFailed: ") {
		t.Errorf("events %q", got)
	}
}

func TestAVolumeGrowsWhileAPodHasIt(t *testing.T) {
	n := newGrowingNode(t, "1Ki")
	setUp(t, n.Manager, n.pod)
	n.enlarge("2Ki")
	n.drivers.setFull(errors.New("no room"))
	before := time.Now()
	n.later(growthLook)
	want := `Warning VolumeResizeFailed: NodeExpandVolume.NodeExpandVolume failed for volume "pv" : no room`
	testrun.Eventually(t, "a failure is told", func() bool { return slices.Contains(n.said(), want) })
	for range 5 { // it is not tried at each sync
		setUp(t, n.Manager, n.pod)
	}
	if got := n.expansions(); len(got) != 1 && time.Since(before) < firstGrowth {
		t.Errorf("calls %q", got)
	}
	n.drivers.setFull(nil)
	n.mu.Lock()
	n.conflicts = 1 // for what marks the begin: that is tried again as a whole
	n.past += time.Hour
	n.mu.Unlock()
	n.growth.wake <- struct{}{}
	testrun.Eventually(t, "the conflict is told", func() bool {
		return slices.ContainsFunc(n.said(), func(s string) bool { return strings.Contains(s, "it has changed") })
	})
	n.mu.Lock()
	n.past += time.Hour
	n.mu.Unlock()
	n.growth.wake <- struct{}{}
	testrun.Eventually(t, "it has grown", func() bool { return n.status() == "2Ki " })
	testrun.Eventually(t, "that is told", func() bool { return slices.Equal(n.said(), grown()) })

	// A size that is not feasible is left alone until the controller sets another.
	n.enlarge("4Ki")
	n.drivers.setFull(csi.ErrInfeasible)
	n.later(time.Hour)
	testrun.Eventually(t, "it is not feasible", func() bool { return n.status() == "2Ki NodeResizeInfeasible FileSystemResizePending NodeResizeError" })
	tried := len(n.expansions())
	n.later(time.Hour)
	n.drivers.setFull(nil)
	n.enlarge("3Ki")
	n.later(2 * time.Hour)
	testrun.Eventually(t, "it has grown again", func() bool { return n.status() == "3Ki " })
	if got := n.expansions(); len(got) != tried+1 {
		t.Errorf("calls %q", got)
	}
	if err := n.TearDown(t.Context(), n.pod.UID); err != nil || len(n.growth.volumes) > 0 {
		t.Errorf("left: %v, error %v", n.growth.volumes, err)
	}
}

func TestADriverThatHangsWhileItGrowsAVolumeHoldsUpNobody(t *testing.T) {
	n := newGrowingNode(t, "1Ki")
	setUp(t, n.Manager, n.pod)
	n.enlarge("2Ki")
	hang := make(chan struct{})
	n.drivers.setHang(hang)
	n.later(growthLook)
	testrun.Eventually(t, "the driver is asked", func() bool { return len(n.expansions()) == 1 })
	n.later(time.Hour)
	if err := n.TearDown(t.Context(), n.pod.UID); err != nil {
		t.Error(err)
	}
	close(hang)
}

// TestALocalDiskGrows enlarges a disk on which a pod has a file system.
func TestALocalDiskGrows(t *testing.T) {
	disk := loopDisk(t)
	for _, program := range []string{"mkfs.ext4", "resize2fs", "blkid"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if out, err := exec.Command("mkfs.ext4", "-q", disk, "8M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := boundClaim(localVolume(disk))
	m := newManager(t, Config{Claims: c})
	pod := podOfClaim(false)
	setUp(t, m, pod)
	dir := pathOf(t, m, pod, "v")
	room := func() uint64 {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			t.Fatal(err)
		}
		return s.Blocks * uint64(s.Bsize)
	}
	before := room()
	k, err := m.persistent(pod, &pod.Spec.Volumes[0], c.volumes["pv"])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := k.(growable).grow(t.Context(), 0)
		if err != nil && strings.Contains(err.Error(), "Permission denied to resize filesystem") {
			t.Skip("growing a mounted ext4 needs CAP_SYS_RESOURCE, which this environment does not give: " + err.Error())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if now := room(); now < before*3/2 {
		t.Errorf("%d bytes, before %d", now, before)
	}
}

func TestALocalDirectoryHasNothingToGrow(t *testing.T) {
	needRoot(t)
	c := boundClaim(localVolume(t.TempDir()))
	m := newManager(t, Config{Claims: c})
	pod := podOfClaim(false)
	setUp(t, m, pod)
	k, err := m.persistent(pod, &pod.Spec.Volumes[0], c.volumes["pv"])
	if err != nil {
		t.Fatal(err)
	}
	if err := k.(growable).grow(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
