package csi

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/pluginregistry"
	"github.com/mini-kubelet/mini-kubelet/test/csidriver"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
	"github.com/mini-kubelet/mini-kubelet/test/testrun"
)

const driverName = "test.csi.example"

// house is a node with a driver and an API server.
type house struct {
	*Manager
	t      *testing.T
	root   string
	client *fake.Clientset
	driver *csidriver.Driver
	alone  bool // without the API server, except for its secrets
	used   []v1.UniqueVolumeName
	freed  []v1.UniqueVolumeName
	owns   func(types.UID) bool
	came   atomic.Int32 // drivers that have registered
	stop   func()
}

func object(change func(*storage.CSIDriverSpec)) *storage.CSIDriver {
	policy := storage.FileFSGroupPolicy
	o := &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driverName}, Spec: storage.CSIDriverSpec{
		AttachRequired: ptr.To(false), FSGroupPolicy: &policy,
		VolumeLifecycleModes: []storage.VolumeLifecycleMode{storage.VolumeLifecyclePersistent, storage.VolumeLifecycleEphemeral},
	}}
	if change != nil {
		change(&o.Spec)
	}
	return o
}

func start(t *testing.T, cfg csidriver.Config, objects ...runtime.Object) *house {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	root, err := os.MkdirTemp("/tmp", "csi-") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, ""); err != nil {
		t.Skipf("this environment cannot mount: %v", err)
	}
	t.Cleanup(func() {
		infos, _ := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
		for i := len(infos) - 1; i >= 0; i-- {
			_ = unix.Unmount(infos[i].Mountpoint, unix.MNT_DETACH)
		}
		_ = os.Remove(root)
	})
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}}
	h := &house{t: t, root: root, client: fake.NewClientset(append(objects, node)...)}
	h.restart()
	cfg.Name, cfg.Root, cfg.Data = driverName, root, filepath.Join(root, "data")
	if h.driver, err = csidriver.Start(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.driver.Stop)
	t.Cleanup(func() { h.stop() })
	h.registered()
	return h
}

// restart makes a new Manager, like a new agent.
func (h *house) restart() {
	if h.stop != nil {
		h.stop()
	}
	c := Config{
		Root: h.root, NodeName: "n1", Client: h.client,
		Node: func() *v1.Node {
			n, err := h.client.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
			if err != nil {
				return nil
			}
			return n
		},
		Secret: func(ctx context.Context, namespace, name string) (*v1.Secret, error) {
			return h.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		Token: func(_ context.Context, pod *v1.Pod, audience string, _ int64) (authentication.TokenRequestStatus, error) {
			return authentication.TokenRequestStatus{Token: string(pod.UID) + " for " + audience}, nil
		},
		Use:     func(_ context.Context, n v1.UniqueVolumeName) error { h.used = append(h.used, n); return nil },
		Release: func(n v1.UniqueVolumeName) { h.freed = append(h.freed, n) },
		Registered: func() {
			if _, err := h.Manager.driver(driverName); err != nil {
				h.t.Errorf("told of a driver that is not there: %v", err)
			}
			h.came.Add(1)
		},
	}
	c.Owns = h.owns
	if h.alone {
		c.Client, c.Node = nil, nil
	}
	m, err := New(c)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Manager = m
	plugins, err := pluginregistry.New(pluginregistry.Config{Root: h.root, Handlers: map[string]pluginregistry.Handler{registration.CSIPlugin: m}})
	if err != nil {
		h.t.Fatal(err)
	}
	stopRegistry, stopManager := testrun.Start(h.t, plugins.Run), testrun.Start(h.t, m.Run)
	h.stop = func() { stopRegistry(); stopManager() }
}

func (h *house) until(what string, cond func() bool) {
	h.t.Helper()
	testrun.Eventually(h.t, what, cond)
}

func (h *house) registered() {
	h.t.Helper()
	h.until("the driver is registered", func() bool { _, err := h.Manager.driver(driverName); return err == nil })
}

func (h *house) volume(uid, name string) Volume {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p-" + uid, Namespace: "ns", UID: types.UID(uid)}}
	pod.Spec.ServiceAccountName = "sa"
	return Volume{
		Pod: pod, Name: name, Dir: filepath.Join(h.root, "pods", uid, "volumes", volumesDir, name),
		SetGroup: func(context.Context, string) error { return nil },
	}
}

func (h *house) inline(uid string) Volume {
	v := h.volume(uid, "own")
	v.Inline = &v1.CSIVolumeSource{Driver: driverName, VolumeAttributes: map[string]string{"size": "1"}}
	return v
}

func (h *house) persistent(uid, handle string) Volume {
	v := h.volume(uid, "pv-"+handle)
	v.PV = &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + handle}}
	v.PV.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteMany}
	v.PV.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driverName, VolumeHandle: handle}
	return v
}

func (h *house) calls(want ...string) {
	h.t.Helper()
	if got := h.driver.Calls(); !slices.Equal(got, want) {
		h.t.Errorf("calls %q, want %q", got, want)
	}
}

func (h *house) setUp(v Volume) {
	h.t.Helper()
	if err := h.SetUp(h.t.Context(), v); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) tearDown(v Volume) {
	h.t.Helper()
	if err := h.TearDown(h.t.Context(), v.Dir); err != nil {
		h.t.Fatal(err)
	}
	if _, err := os.Lstat(v.Dir); !errors.Is(err, os.ErrNotExist) {
		h.t.Errorf("the pod's directory is left: %v", err)
	}
}

const stageCall, publishCall, unpublishCall, unstageCall = "NodeStageVolume", "NodePublishVolume", "NodeUnpublishVolume", "NodeUnstageVolume"

func TestADriverIsPutIntoTheCSINodeAndTakenOut(t *testing.T) {
	h := start(t, csidriver.Config{Topology: map[string]string{"example/zone": "a"}, MaxVolumes: 7})
	o, err := h.client.StorageV1().CSINodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Spec.Drivers) != 1 || o.OwnerReferences[0].UID != "node-uid" {
		t.Fatalf("CSINode %+v", o)
	}
	d := o.Spec.Drivers[0]
	if d.Name != driverName || d.NodeID != "id-of-this-node" || *d.Allocatable.Count != 7 || !slices.Equal(d.TopologyKeys, []string{"example/zone"}) {
		t.Errorf("driver %+v", d)
	}
	if got := o.Annotations[v1.MigratedPluginsAnnotationKey]; got != "kubernetes.io/aws-ebs,kubernetes.io/azure-disk,kubernetes.io/azure-file,kubernetes.io/cinder,kubernetes.io/gce-pd,kubernetes.io/portworx-volume,kubernetes.io/vsphere-volume" {
		t.Errorf("migrated plug-ins %q", got)
	}
	n, err := h.client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	if err != nil || n.Labels["example/zone"] != "a" || n.Annotations[nodeIDs] != `{"test.csi.example":"id-of-this-node"}` {
		t.Errorf("labels %v, annotations %v, error %v", n.Labels, n.Annotations, err)
	}
	h.until("the driver is told", func() bool { s := h.driver.Registered(); return s != nil && s.PluginRegistered })
	h.until("pods that wait for it are", func() bool { return h.came.Load() == 1 })

	// The CSINode keeps the driver when the agent ends, but not when the driver ends.
	h.stop()
	if o, err = h.client.StorageV1().CSINodes().Get(t.Context(), "n1", metav1.GetOptions{}); err != nil || len(o.Spec.Drivers) != 1 {
		t.Errorf("after the agent's end: %v, %v", o, err)
	}
	h.restart()
	h.registered()
	h.driver.Stop()
	h.until("the driver is withdrawn", func() bool {
		o, err := h.client.StorageV1().CSINodes().Get(t.Context(), "n1", metav1.GetOptions{})
		return err == nil && len(o.Spec.Drivers) == 0
	})
	if err := h.SetUp(t.Context(), h.persistent("a", "1")); err == nil || err.Error() != "driver name test.csi.example not found in the list of registered CSI drivers" {
		t.Errorf("error %v", err)
	}
}

func TestTheNodeIsNotReadyUntilItsCSINodeIsThere(t *testing.T) {
	client := fake.NewClientset()
	var refuse atomic.Bool
	refuse.Store(true)
	client.PrependReactor("create", "csinodes", func(k8stesting.Action) (bool, runtime.Object, error) {
		return refuse.Load(), nil, errors.New("not now")
	})
	changed := make(chan struct{}, 10)
	var node atomic.Pointer[v1.Node]
	m, err := New(Config{
		Root: t.TempDir(), NodeName: "n1", Client: client, Node: node.Load, Changed: func() { changed <- struct{}{} },
		Secret: func(context.Context, string, string) (*v1.Secret, error) { return nil, errors.New("none") },
	})
	if err != nil {
		t.Fatal(err)
	}
	testrun.Start(t, m.Run)
	if got := m.Problems(); !slices.Equal(got, []string{"CSINode is not yet initialized"}) {
		t.Errorf("before the node is known: %q", got)
	}
	node.Store(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}})
	<-changed
	<-m.Settled()
	if got := m.Problems(); !slices.Equal(got, []string{"failed to initialize CSINode: update CSINode n1: not now"}) {
		t.Errorf("while the API server refuses it: %q", got)
	}
	refuse.Store(false)
	<-changed
	if got := m.Problems(); got != nil {
		t.Errorf("once it is there: %q", got)
	}
}

func TestAStandaloneNodeMountsWhatNeedsNoAttaching(t *testing.T) {
	h := start(t, csidriver.Config{Topology: map[string]string{"example/zone": "a"}}, &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"k": []byte("v")}})
	h.alone = true
	h.restart()
	h.registered()
	if got := h.Problems(); got != nil {
		t.Errorf("problems of a node without an API server: %q", got)
	}
	h.client.ClearActions()
	v := h.persistent("a", "1")
	v.PV.Spec.CSI.NodePublishSecretRef = &v1.SecretReference{Namespace: "ns", Name: "s"}
	h.setUp(v)
	h.calls(stageCall, publishCall)
	if r := h.driver.Published(); len(r) != 1 || r[0].Secrets["k"] != "v" {
		t.Errorf("published %v", r)
	}
	if err := h.SetUp(t.Context(), h.inline("a")); err == nil || err.Error() != `volume mode "Ephemeral" not supported by driver test.csi.example (only supports ["Persistent"])` {
		t.Errorf("a volume of the pod's own: %v", err)
	}
	h.tearDown(v)
	h.driver.Stop()
	h.until("the driver has gone", func() bool { _, err := h.Manager.driver(driverName); return err != nil })
	for _, a := range h.client.Actions() {
		if a.GetResource().Resource != "secrets" {
			t.Errorf("the API server was asked: %v", a)
		}
	}
	if len(h.used) > 0 {
		t.Errorf("in use %q", h.used)
	}
}

func TestAVolumeIsStagedOnceForAllItsPods(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	a, b := h.persistent("a", "1"), h.persistent("b", "1")
	h.setUp(a)
	h.setUp(a)
	h.calls(stageCall, publishCall)
	h.setUp(b)
	if err := os.WriteFile(filepath.Join(h.Target(a), "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := os.ReadFile(filepath.Join(h.Target(b), "f")); string(c) != "x" {
		t.Errorf("the other pod does not see it: %v", err)
	}
	h.restart() // what follows needs only the disk
	h.registered()
	h.setUp(a)
	before := len(h.driver.Calls())
	h.tearDown(a)
	if got := h.driver.Calls()[before:]; !slices.Equal(got, []string{unpublishCall}) {
		t.Errorf("calls %q while another pod has the volume", got)
	}
	h.tearDown(b)
	if got := h.driver.Calls()[before:]; !slices.Equal(got, []string{unpublishCall, unpublishCall, unstageCall}) {
		t.Errorf("calls %q at last", got)
	}
	if left := h.staged(); len(left) > 0 {
		t.Errorf("still staged: %v", left)
	}
	if c, err := os.ReadFile(filepath.Join(h.driver.Volume("1"), "f")); string(c) != "x" {
		t.Errorf("the volume lost its content: %v", err)
	}
	if len(h.used) > 0 || !slices.Equal(h.freed, []v1.UniqueVolumeName{"kubernetes.io/csi/test.csi.example^1"}) {
		t.Errorf("in use %q, freed %q", h.used, h.freed)
	}
}

func TestWhatADriverIsTold(t *testing.T) {
	h := start(t, csidriver.Config{MountGroup: true}, object(func(s *storage.CSIDriverSpec) {
		s.PodInfoOnMount, s.RequiresRepublish = ptr.To(true), ptr.To(true)
		s.TokenRequests = []storage.TokenRequest{{Audience: "vault"}}
	}), &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Data: map[string][]byte{"k": []byte("v")}})
	v := h.inline("a")
	v.Inline.NodePublishSecretRef, v.ReadOnly = &v1.LocalObjectReference{Name: "s"}, true
	v.Pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To(int64(7))}
	v.SetGroup = func(context.Context, string) error { return errors.New("the driver does that") }
	h.setUp(v)
	h.setUp(v)
	h.calls(publishCall, publishCall)
	r := h.driver.Published()[0]
	var tokens map[string]authentication.TokenRequestStatus
	if err := json.Unmarshal([]byte(r.VolumeContext["csi.storage.k8s.io/serviceAccount.tokens"]), &tokens); err != nil || tokens["vault"].Token != "a for vault" {
		t.Errorf("tokens %v, %v", tokens, err)
	}
	for k, want := range map[string]string{
		"size": "1", "csi.storage.k8s.io/pod.name": "p-a", "csi.storage.k8s.io/pod.namespace": "ns", "csi.storage.k8s.io/pod.uid": "a",
		"csi.storage.k8s.io/serviceAccount.name": "sa", "csi.storage.k8s.io/ephemeral": "true",
	} {
		if r.VolumeContext[k] != want {
			t.Errorf("%s is %q, want %q", k, r.VolumeContext[k], want)
		}
	}
	if r.VolumeId != "csi-"+hash("a", "own") || r.Secrets["k"] != "v" || !r.Readonly || r.VolumeCapability.GetMount().GetVolumeMountGroup() != "7" || r.StagingTargetPath != "" {
		t.Errorf("request %v", r)
	}
	h.tearDown(v)
}

func TestAFailedPublishingLeavesAPodThatHasTheVolumeAsItWas(t *testing.T) {
	var fail atomic.Bool
	h := start(t, csidriver.Config{Before: func(_ context.Context, call string) error {
		if call == publishCall && fail.Load() {
			return status.Error(codes.Internal, "out of order")
		}
		return nil
	}}, object(func(s *storage.CSIDriverSpec) { s.RequiresRepublish = ptr.To(true) }))
	v := h.inline("a")
	fail.Store(true)
	if err := h.SetUp(t.Context(), v); status.Convert(err).Message() != "out of order" {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(v.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed one is left: %v", err)
	}
	fail.Store(false)
	h.setUp(v)
	fail.Store(true)
	var kept *RepublishError
	if err := h.SetUp(t.Context(), v); !errors.As(err, &kept) {
		t.Errorf("a failed republishing is not told: %v", err)
	}
	if mounted, err := mountinfo.Mounted(h.Target(v)); !mounted || !h.isReady(v, v.data("n1")) {
		t.Errorf("the pod lost its volume: %v", err)
	}
	h.tearDown(v)
}

func TestTheFilesGetTheirGroupByPolicy(t *testing.T) {
	file, none, byType := storage.FileFSGroupPolicy, storage.NoneFSGroupPolicy, storage.ReadWriteOnceWithFSTypeFSGroupPolicy
	for name, tt := range map[string]struct {
		policy   *storage.FSGroupPolicy
		fsType   string
		mode     v1.PersistentVolumeAccessMode
		readOnly bool
		want     bool
	}{
		"File":                        {&file, "", v1.ReadWriteMany, false, true},
		"File, read-only":             {&file, "", v1.ReadWriteMany, true, false},
		"None":                        {&none, "ext4", v1.ReadWriteOnce, false, false},
		"by type":                     {&byType, "ext4", v1.ReadWriteOnce, false, true},
		"by type, without one":        {&byType, "", v1.ReadWriteOnce, false, false},
		"by type, of several writers": {&byType, "ext4", v1.ReadWriteMany, false, false},
		"no policy":                   {nil, "ext4", v1.ReadWriteOncePod, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := (&house{}).persistent("a", "1")
			v.Pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To(int64(7))}
			v.PV.Spec.CSI.FSType, v.PV.Spec.AccessModes, v.ReadOnly = tt.fsType, []v1.PersistentVolumeAccessMode{tt.mode}, tt.readOnly
			var o *storage.CSIDriver
			if tt.policy != nil {
				o = object(func(s *storage.CSIDriverSpec) { s.FSGroupPolicy = tt.policy })
			}
			if got := v.groupByNode(o); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestAVolumeIsWaitedForUntilItIsAttached(t *testing.T) {
	h := start(t, csidriver.Config{}) // without a CSIDriver, volumes are attached
	v := h.persistent("a", "1")
	short, end := context.WithCancel(t.Context())
	defer end()
	waited := make(chan error, 1)
	go func() { waited <- h.SetUp(short, v) }()
	h.until("it is waited for", func() bool {
		return slices.ContainsFunc(h.client.Actions(), func(a k8stesting.Action) bool { return a.Matches("get", "volumeattachments") })
	})
	end()
	if err := <-waited; err == nil || err.Error() != "timed out waiting for external-attacher of test.csi.example CSI driver to attach volume 1" {
		t.Errorf("error %v", err)
	}
	h.calls()
	a := &storage.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: attachmentName("1", driverName, "n1")}}
	a.Status.Attached, a.Status.AttachmentMetadata = true, map[string]string{"lun": "3"}
	if _, err := h.client.StorageV1().VolumeAttachments().Create(t.Context(), a, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.setUp(v)
	if r := h.driver.Staged()[0]; r.PublishContext["lun"] != "3" {
		t.Errorf("staged by %v", r)
	}
	if want := v1.UniqueVolumeName("kubernetes.io/csi/test.csi.example^1"); !slices.Contains(h.used, want) || !slices.Contains(h.InUse(), want) {
		t.Errorf("reported %q, on disk %q", h.used, h.InUse())
	}
	h.tearDown(v)
	if len(h.freed) != 1 || len(h.InUse()) != 0 {
		t.Errorf("freed %q, on disk %q", h.freed, h.InUse())
	}
}

func TestADriverThatHangsHoldsUpItsVolumeOnly(t *testing.T) {
	release := make(chan struct{})
	h := start(t, csidriver.Config{Before: func(ctx context.Context, call string) error {
		if call == stageCall {
			select {
			case <-release:
			case <-ctx.Done():
				return status.FromContextError(ctx.Err()).Err()
			}
		}
		return nil
	}}, object(nil))
	stuck, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.SetUp(stuck, h.persistent("a", "1")) }()
	h.until("it is being staged", func() bool { return slices.Contains(h.driver.Calls(), stageCall) })
	own := h.inline("b") // the same driver
	h.setUp(own)
	h.tearDown(own)
	if err := h.Clean(t.Context()); err != nil {
		t.Error(err)
	}
	short, cancelShort := context.WithTimeout(t.Context(), time.Second)
	defer cancelShort()
	if err := h.SetUp(short, h.persistent("b", "1")); err == nil || !strings.Contains(err.Error(), "is busy") {
		t.Errorf("error %v", err)
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("a call that was given up succeeded")
	}
	// It may be staged after all: Clean unstages it.
	close(release)
	if err := h.Clean(t.Context()); err != nil {
		t.Error(err)
	}
	if calls := h.driver.Calls(); calls[len(calls)-1] != unstageCall || len(h.staged()) > 0 {
		t.Errorf("calls %q, left %v", calls, h.staged())
	}
}

func TestABlockVolumeIsPublishedAsADevice(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	if err := os.MkdirAll(h.driver.Volume("1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(h.driver.Volume("1"), "device")); err != nil {
		t.Fatal(err)
	}
	v := h.persistent("a", "1")
	v.Block = true
	v.SetGroup = func(context.Context, string) error { return errors.New("a device has no files") }
	h.setUp(v)
	h.setUp(v)
	h.calls(stageCall, publishCall)
	target := filepath.Join(h.root, pluginDir, "volumeDevices", "publish", "pv-1", "a")
	if fi, err := os.Stat(target); h.Target(v) != target || err != nil || fi.Mode()&os.ModeDevice == 0 {
		t.Errorf("at %s: %v", h.Target(v), err)
	}
	if s := h.driver.Staged()[0]; s.VolumeCapability.GetBlock() == nil || !strings.HasSuffix(s.StagingTargetPath, "/volumeDevices/staging/pv-1") {
		t.Errorf("staged by %v", s)
	}
	h.restart()
	h.registered()
	h.tearDown(v)
	h.calls(stageCall, publishCall, unpublishCall, unstageCall)
	if mounted, err := mountinfo.Mounted(target); mounted || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// Whichever record is damaged, a pod keeps its volume, which goes through the driver once more
// and is recorded again: in the end it is unpublished and unstaged.
func TestDamagedRecordsOfAVolume(t *testing.T) {
	var h *house
	var v Volume
	for _, which := range []string{"published", "staged"} {
		place := func(t *testing.T) string {
			h = start(t, csidriver.Config{}, object(nil))
			v = h.persistent("a", "1")
			h.setUp(v)
			if which == "published" {
				return filepath.Join(v.Dir, dataFile)
			}
			dir, _ := h.stagedDir(v.data("n1"), false)
			return filepath.Join(dir, dataFile)
		}
		damage.Each(t, place, func(t *testing.T, path string) {
			if _, err := os.Lstat(path); err != nil {
				return // removed: nobody knows of it
			}
			h.t = t
			h.restart()
			if which == "published" && len(h.InUse()) != 1 {
				t.Errorf("in use: %v", h.InUse())
			}
			before := len(h.driver.Calls())
			if err := h.Clean(t.Context()); err != nil {
				t.Error(err)
			}
			h.registered()
			if err := h.Clean(t.Context()); err != nil || len(h.driver.Calls()) != before {
				t.Errorf("cleaned while a pod has it: %q, %v", h.driver.Calls()[before:], err)
			}
			h.setUp(v)
			if got := h.driver.Calls()[before:]; !slices.Equal(got, []string{stageCall, publishCall}) {
				t.Errorf("calls %q", got)
			}
			damage.MovedAside(t, path)
			before = len(h.driver.Calls())
			if err := h.TearDown(t.Context(), v.Dir); err != nil {
				t.Error(err)
			}
			// As the pod's directory is removed, and housekeeping comes.
			if err := errors.Join(os.RemoveAll(v.Dir), h.Clean(t.Context())); err != nil {
				t.Error(err)
			}
			if got := h.driver.Calls()[before:]; !slices.Equal(got, []string{unpublishCall, unstageCall}) {
				t.Errorf("calls %q at last", got)
			}
			// For damage.Each, which looks for it last.
			left, _ := filepath.Glob(path + ".damaged-*")
			for _, l := range left {
				_ = os.RemoveAll(l)
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".damaged-x", nil, 0o600)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A pod may end before anybody sets up its volume again: what the damaged record was about is
// unstaged all the same, before the volume is released.
func TestAVolumeWhoseStagedRecordIsDamagedIsUnstagedAtTheEnd(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	v := h.persistent("a", "1")
	h.setUp(v)
	dir, _ := h.stagedDir(v.data("n1"), false)
	if err := os.WriteFile(filepath.Join(dir, dataFile), []byte("gar"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.restart()
	if got := h.InUse(); len(got) != 1 { // which moves the record aside
		t.Errorf("in use: %v", got)
	}
	h.registered()
	before := len(h.driver.Calls())
	if err := h.TearDown(t.Context(), v.Dir); err != nil {
		t.Fatal(err)
	}
	if got := h.driver.Calls()[before:]; !slices.Equal(got, []string{unpublishCall, unstageCall}) {
		t.Errorf("calls %q", got)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
}

// What goes wrong with a staged record just when the last pod goes does not make the agent forget
// the volume: it is unstaged and released once that can be.
func TestAStagedRecordThatIsInTheWayOfATeardown(t *testing.T) {
	damaged := func(file string) error { return os.WriteFile(file, []byte("gar"), 0o600) }
	for what, c := range map[string]struct {
		spoil, mend func(file string) error
		fails       bool // the first teardown
	}{
		"damaged just then": {spoil: damaged},
		"damaged, and cannot be written anew": {
			spoil: func(file string) error {
				return errors.Join(damaged(file), os.Mkdir(file+".new", 0o700), unix.Mount("tmpfs", file+".new", "tmpfs", 0, ""))
			},
			mend:  func(file string) error { return errors.Join(unix.Unmount(file+".new", 0), os.Remove(file+".new")) },
			fails: true,
		},
		"unreadable": {
			spoil: func(file string) error { return unix.Mount(file, file, "", unix.MS_BIND, "") }, // not followed
			mend:  func(file string) error { return unix.Unmount(file, 0) },
		},
	} {
		t.Run(what, func(t *testing.T) {
			h := start(t, csidriver.Config{}, object(nil))
			v := h.persistent("a", "1")
			h.setUp(v)
			dir, _ := h.stagedDir(v.data("n1"), false)
			file := filepath.Join(dir, dataFile)
			if err := c.spoil(file); err != nil {
				t.Fatal(err)
			}
			if err := h.TearDown(t.Context(), v.Dir); (err != nil) != c.fails {
				t.Errorf("the first teardown: %v", err)
			}
			if c.mend != nil {
				if len(h.freed) > 0 || slices.Contains(h.driver.Calls(), unstageCall) {
					t.Errorf("released too early: %v, calls %q", h.freed, h.driver.Calls())
				}
				if err := c.mend(file); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(h.TearDown(t.Context(), v.Dir), h.Clean(t.Context())); err != nil {
				t.Error(err)
			}
			if got := h.driver.Calls(); !slices.Contains(got, unstageCall) || len(h.freed) != 1 {
				t.Errorf("calls %q, released %v", got, h.freed)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left: %v", err)
			}
		})
	}
}

// A volume that could not be unstaged is known until it is, even if it cannot be staged again.
func TestAVolumeThatIsStagedStillWhenItCannotBeStagedAgain(t *testing.T) {
	var failing atomic.Value // the call
	h := start(t, csidriver.Config{Before: func(_ context.Context, call string) error {
		if call == failing.Load() {
			return status.Error(codes.InvalidArgument, "no")
		}
		return nil
	}}, object(nil))
	v := h.persistent("a", "1")
	h.setUp(v)
	failing.Store(unstageCall)
	h.tearDown(v)
	_, staging := h.stagedDir(v.data("n1"), false)
	if err := unix.Unmount(staging, unix.MNT_DETACH); err != nil { // many drivers mount nothing there for a raw device
		t.Fatal(err)
	}
	failing.Store(stageCall)
	if err := h.SetUp(t.Context(), v); err == nil {
		t.Error("it is said to be set up")
	}
	failing.Store("")
	before := len(h.driver.Calls())
	if err := h.Clean(t.Context()); err != nil {
		t.Error(err)
	}
	if got := h.driver.Calls()[before:]; !slices.Equal(got, []string{unstageCall}) {
		t.Errorf("calls %q", got)
	}
}

// Records of other kubelets' pods are left as they are. Those that can be read count: what such
// a pod has must not be taken from under it.
func TestRecordsOfOtherKubeletsPods(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	h.owns = func(uid types.UID) bool { return uid != "theirs" }
	h.restart()
	h.registered()
	ours, theirs := h.persistent("ours", "1"), h.persistent("theirs", "1")
	file := filepath.Join(theirs.Dir, dataFile)
	if err := errors.Join(os.MkdirAll(theirs.Dir, 0o750), theirs.data("n1").save(theirs.Dir)); err != nil {
		t.Fatal(err)
	}
	h.setUp(ours)
	if err := h.TearDown(t.Context(), ours.Dir); err != nil {
		t.Error(err)
	}
	h.calls(stageCall, publishCall, unpublishCall)
	for _, f := range []string{file, file + ".damaged-x"} { // by an agent from before
		if err := os.WriteFile(f, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Clean(t.Context()); err != nil {
		t.Error(err)
	}
	h.calls(stageCall, publishCall, unpublishCall, unstageCall)
	if text, err := os.ReadFile(file); err != nil || string(text) != "garbage" {
		t.Errorf("their record: %q, %v", text, err)
	}
}

// While a record of ours cannot be read, or is found damaged just then, nothing is unstaged.
func TestARecordThatCannotBeReadKeepsVolumesStaged(t *testing.T) {
	for what, spoil := range map[string]func(file string) error{
		"damaged":    func(file string) error { return os.WriteFile(file, []byte("garbage"), 0o600) },
		"unreadable": func(file string) error { return unix.Mount(file, file, "", unix.MS_BIND, "") }, // not followed
	} {
		t.Run(what, func(t *testing.T) {
			h := start(t, csidriver.Config{}, object(nil))
			v := h.persistent("a", "1")
			h.setUp(v)
			if err := spoil(filepath.Join(v.Dir, dataFile)); err != nil {
				t.Fatal(err)
			}
			if err := h.Clean(t.Context()); err != nil {
				t.Error(err)
			}
			h.calls(stageCall, publishCall)
		})
	}
}

func TestAVolumeThatIsReadyNeedsNoDriver(t *testing.T) {
	h := start(t, csidriver.Config{}, object(nil))
	v := h.inline("a")
	h.setUp(v)
	h.driver.Stop()
	h.restart()
	h.setUp(v)
	if err := h.TearDown(t.Context(), v.Dir); err == nil || !strings.Contains(err.Error(), "not found in the list of registered CSI drivers") {
		t.Errorf("error %v", err)
	}
	if _, err := load(v.Dir); err != nil {
		t.Errorf("the record is gone: %v", err)
	}
}

func TestModesThatADriverDoesNotHave(t *testing.T) {
	h := start(t, csidriver.Config{}, object(func(s *storage.CSIDriverSpec) {
		s.VolumeLifecycleModes = []storage.VolumeLifecycleMode{storage.VolumeLifecyclePersistent}
	}))
	err := h.SetUp(t.Context(), h.inline("a"))
	if err == nil || err.Error() != `volume mode "Ephemeral" not supported by driver test.csi.example (only supports ["Persistent"])` {
		t.Errorf("error %v", err)
	}
	h.calls()
}

func TestVersions(t *testing.T) {
	for _, good := range [][]string{{"1.0.0"}, {"0.3.0", "v1.2.0"}} {
		if err := checkVersions(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][]string{nil, {"0.3.0"}, {"2.0.0"}, {"10.1"}} {
		if checkVersions(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestWhatADriverSaysOfItselfIsRefusedInAFewWords(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "a/b", "a\x00b", strings.Repeat("x", 5000)} {
		if _, err := (&Manager{}).add(t.Context(), bad, "/none", []string{"1.0.0"}); err == nil || !strings.HasSuffix(err.Error(), "that is no name") || len(err.Error()) > 300 {
			t.Errorf("name %.10q: %.300v", bad, err)
		}
	}
	if err := checkVersions([]string{strings.Repeat("x", 5000)}); err == nil || len(err.Error()) > 300 {
		t.Errorf("%.300v", err)
	}
}
