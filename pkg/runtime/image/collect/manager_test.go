package collect

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// node is a runtime with its disk.
type node struct {
	mu         sync.Mutex
	images     []*cri.Image
	containers []*cri.Container
	mounts     map[string]string // image IDs by container
	capacity   uint64
	other      uint64            // what is on the disk besides images
	shared     map[string]uint64 // what of an image's size others have too
	refuse     map[string]error  // removals
	removed    []string
	during     func(id string) // called during a removal
	dropped    []string        // records
	events     []string
	wanted     []string
	config     string        // the runtime's
	broken     error         // why containers' statuses cannot be had
	asked      int           // for a container's status
	hangs      time.Duration // how long that takes
}

func (n *node) ListImages(context.Context, *cri.ListImagesRequest, ...grpc.CallOption) (*cri.ListImagesResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &cri.ListImagesResponse{Images: slices.Clone(n.images)}, nil
}

func (n *node) ImageStatus(_ context.Context, r *cri.ImageStatusRequest, _ ...grpc.CallOption) (*cri.ImageStatusResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, i := range n.images {
		if i.Id == r.Image.Image {
			return &cri.ImageStatusResponse{Image: i}, nil
		}
	}
	return &cri.ImageStatusResponse{}, nil
}

func (n *node) RemoveImage(_ context.Context, r *cri.RemoveImageRequest, _ ...grpc.CallOption) (*cri.RemoveImageResponse, error) {
	id := r.Image.Image
	if n.during != nil {
		n.during(id)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.refuse[id]; err != nil {
		return nil, err
	}
	n.images = slices.DeleteFunc(n.images, func(i *cri.Image) bool { return i.Id == id })
	n.removed = append(n.removed, id)
	return &cri.RemoveImageResponse{}, nil
}

func (n *node) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest, ...grpc.CallOption) (*cri.ImageFsInfoResponse, error) {
	at := func(path string) []*cri.FilesystemUsage {
		return []*cri.FilesystemUsage{{FsId: &cri.FilesystemIdentifier{Mountpoint: path}}}
	}
	return &cri.ImageFsInfoResponse{ImageFilesystems: at("/images"), ContainerFilesystems: at("/containers")}, nil
}

func (n *node) ListContainers(context.Context, *cri.ListContainersRequest, ...grpc.CallOption) (*cri.ListContainersResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &cri.ListContainersResponse{Containers: slices.Clone(n.containers)}, nil
}

func (n *node) Status(_ context.Context, r *cri.StatusRequest, _ ...grpc.CallOption) (*cri.StatusResponse, error) {
	if n.config == "" || !r.Verbose {
		return nil, errors.New("not now")
	}
	return &cri.StatusResponse{Info: map[string]string{"config": n.config}}, nil
}

func (n *node) ContainerStatus(_ context.Context, r *cri.ContainerStatusRequest, _ ...grpc.CallOption) (*cri.ContainerStatusResponse, error) {
	time.Sleep(n.hangs)
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &cri.ContainerStatus{Id: r.ContainerId, Mounts: []*cri.Mount{{ContainerPath: "/data", HostPath: "/srv"}}}
	if id := n.mounts[r.ContainerId]; id != "" {
		s.Mounts = append(s.Mounts, &cri.Mount{ContainerPath: "/image", Image: &cri.ImageSpec{Image: id}})
	}
	if n.asked++; n.broken != nil {
		return nil, n.broken
	}
	if r.ContainerId == "gone" {
		return nil, status.Error(codes.NotFound, "it is gone")
	}
	return &cri.ContainerStatusResponse{Status: s}, nil
}

func (n *node) statfs(path string) (FileSystem, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if path != "/images" {
		return FileSystem{}, errors.New("not the file system of the images")
	}
	used := n.other
	for _, i := range n.images {
		used += i.Size - n.shared[i.Id]
	}
	return FileSystem{Capacity: n.capacity, Available: n.capacity - min(used, n.capacity)}, nil
}

func (n *node) Drop(id string, _ time.Time) { n.dropped = append(n.dropped, id) }

func (n *node) event(_, reason, message string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, reason+": "+message)
}

// told returns the events since the last call.
func (n *node) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer func() { n.events = nil }()
	return n.events
}

// uses makes a container of an image, and one of nothing else.
func (n *node) uses(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.containers = []*cri.Container{{Id: "c", ImageId: id, Image: &cri.ImageSpec{Image: id}}}
}

func (n *node) manager(t *testing.T, p Policy) *Manager {
	t.Helper()
	wanted := func() []string {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.wanted
	}
	m, err := New(Config{Runtime: n, Policy: p, Wanted: wanted, Records: n, NodeEvent: n.event,
		Metrics: prometheus.NewRegistry(), Statfs: n.statfs})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func img(id string, size uint64, names ...string) *cri.Image {
	return &cri.Image{Id: "sha256:" + id, Size: size, RepoTags: names}
}

func ids(short string) []string {
	var list []string
	for _, id := range strings.Fields(short) {
		list = append(list, "sha256:"+id)
	}
	return list
}

var policy = Policy{HighPercent: 85, LowPercent: 80, MinAge: 2 * time.Minute}

// pass collects and fails the test on an error.
func mustCollect(t *testing.T, m *Manager) (freed uint64) {
	t.Helper()
	freed, err := m.GarbageCollect(t.Context())
	if err != nil {
		t.Error(err)
	}
	return freed
}

func (n *node) expect(t *testing.T, what string, removed string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.removed, ids(removed)) {
		t.Errorf("%s: removed %q, want %q", what, n.removed, ids(removed))
	}
}

func TestLeastRecentlyUsedImagesGoUntilThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pinned := img("pause", 50)
		pinned.Pinned = true
		n := &node{capacity: 1000, other: 300, mounts: map[string]string{"c": "sha256:volume"}, wanted: []string{"nginx", "sha256:byid", "app@" + digest},
			images: []*cri.Image{img("a", 50), img("b", 50), img("c", 50), img("never", 50), img("volume", 50), pinned,
				img("wanted", 50, "docker.io/library/nginx:latest"), img("byid", 50), {Id: "sha256:digest", Size: 50, RepoDigests: []string{"docker.io/library/app@" + digest}}}}
		m := n.manager(t, policy)
		for _, id := range ids("c a b") {
			n.uses(id)
			mustCollect(t, m)
			time.Sleep(period)
		}
		n.expect(t, "there is room", "")
		n.uses("sha256:new")
		n.containers = append(n.containers, &cri.Container{Id: "gone", ImageId: "sha256:new"})
		n.mu.Lock()
		n.images = append(n.images, img("new", 50))
		n.other += 50
		n.mu.Unlock()
		mustCollect(t, m)
		n.expect(t, "at 85 % it goes below 80 %", "never")
		n.mu.Lock()
		n.other += 100 // 90 %
		n.mu.Unlock()
		if freed := mustCollect(t, m); freed != 100 {
			t.Errorf("%d bytes are said to be freed, want 100", freed)
		}
		n.expect(t, "used first, gone first", "never c a")
		if !slices.Equal(n.dropped, n.removed) {
			t.Errorf("records dropped: %q, removed %q", n.dropped, n.removed)
		}
		if got := testutil.ToFloat64(m.collected.WithLabelValues("space")); got != 3 {
			t.Errorf("counted: %v", got)
		}
		n.mu.Lock()
		n.other += 150
		n.mu.Unlock()
		if _, err := m.GarbageCollect(t.Context()); err == nil {
			t.Error("there is not enough room, and it succeeds")
		}
		n.expect(t, "what is in use, pinned or wanted stays", "never c a b")
		if len(n.events) != 1 || !strings.HasPrefix(n.events[0], "FreeDiskSpaceFailed: Insufficient free disk space on the node's image filesystem (95% of 1000 B used). "+
			"Failed to free sufficient space by deleting unused images (freed 50 bytes). Investigate disk usage") {
			t.Errorf("events: %q", n.events)
		}
	})
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestWhatIsFreedIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 560, images: []*cri.Image{img("a", 40), img("b", 60), img("c", 100), img("d", 100)},
			shared: map[string]uint64{"sha256:a": 39, "sha256:b": 20}}
		m := n.manager(t, policy)
		n.uses("sha256:d")
		mustCollect(t, m)
		time.Sleep(period)
		n.other += 60 // 861
		if freed := mustCollect(t, m); freed != 141 {
			t.Errorf("%d bytes are said to be freed, want 141", freed)
		}
		n.expect(t, "layers of others do not count", "a b c")
		if n.asked != 1 {
			t.Errorf("the container was asked %d times what it has mounted, want once a pass", n.asked)
		}
	})
}

// TestAPassIsNoReasonToRemoveEverything: whoever writes as fast as images go costs the node no more
// of them than a few at each look.
func TestAPassIsNoReasonToRemoveEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 300, images: []*cri.Image{img("0", 30)}, refuse: map[string]error{"sha256:0": status.Error(codes.FailedPrecondition, "it is used")}}
		for i := range 24 {
			n.images = append(n.images, img(string(rune('a'+i)), 20))
		}
		m := n.manager(t, policy)
		mustCollect(t, m)
		time.Sleep(period)
		n.other += 50
		n.during = func(id string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.refuse[id] == nil {
				n.other += 20
			}
		}
		freed, err := m.GarbageCollect(t.Context()) // wants 60
		if err == nil || freed != 0 || !strings.HasPrefix(err.Error(), "wanted to free 60 bytes, but freed 0 bytes by removing images of 120 bytes: ") {
			t.Errorf("freed %d, %v", freed, err)
		}
		n.expect(t, "twice the excess, and what is refused does not count", "a b c d e f")
		if events := n.told(); len(events) > 0 {
			t.Errorf("there are images left, and events are %q", events)
		}
		n.during = nil
		if freed := mustCollect(t, m); freed != 60 {
			t.Errorf("the next pass freed %d bytes, want 60", freed)
		}
	})
}

// TestAContainerThatCannotBeAskedEndsThePass: any image could be mounted by it. The next pass asks
// again.
func TestAContainerThatCannotBeAskedEndsThePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 700, images: []*cri.Image{img("a", 100), img("b", 100)}}
		n.uses("sha256:new")
		m := n.manager(t, Policy{HighPercent: 85, LowPercent: 80})
		n.broken = errors.New("metadata of the container is damaged")
		ctx, cancel := context.WithTimeout(t.Context(), period)
		defer cancel()
		const why = "look which images container c has mounted: metadata of the container is damaged"
		if _, err := m.GarbageCollect(ctx); err == nil || !strings.HasSuffix(err.Error(), "errors in image deletion: "+why) || n.asked != 1 {
			t.Errorf("%v, after %d questions", err, n.asked)
		}
		if err := m.DeleteUnused(ctx); err == nil || err.Error() != "delete unused images: "+why {
			t.Errorf("DeleteUnused: %v", err)
		}
		running, stop := context.WithCancel(t.Context())
		go func() { _ = m.Run(running) }()
		time.Sleep(period + settleFor*2)
		synctest.Wait()
		if events := n.told(); len(events) != 1 || !strings.HasPrefix(events[0], "ImageGCFailed: ") || !strings.HasSuffix(events[0], why) {
			t.Errorf("events: %q", events)
		}
		n.expect(t, "it is not known what is mounted", "")
		n.mu.Lock()
		n.broken = nil
		n.mu.Unlock()
		time.Sleep(period + settleFor*2)
		synctest.Wait()
		n.expect(t, "the next look", "a")
		stop()
		synctest.Wait()
	})
}

// TestAContainerThatCanNeverBeAskedDoesNotFillTheDisk: it keeps the images for three periods only.
func TestAContainerThatCanNeverBeAskedDoesNotFillTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 700, images: []*cri.Image{img("a", 100), img("b", 100)}}
		n.uses("sha256:new")
		m := n.manager(t, Policy{HighPercent: 85, LowPercent: 80})
		n.broken = errors.New("metadata of the container is damaged")
		running, stop := context.WithCancel(t.Context())
		go func() { _ = m.Run(running) }()
		time.Sleep(patience - time.Second)
		synctest.Wait()
		n.expect(t, "it is not known what is mounted", "")
		time.Sleep(period + settleFor*2)
		synctest.Wait()
		n.expect(t, "it will never be known", "a")
		stop()
		synctest.Wait()
	})
}

// TestNothingGoesBeforeItIsKnownWhatIsWanted: but it goes as soon as that is known, and ages count from
// the start.
func TestNothingGoesBeforeItIsKnownWhatIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 700, images: []*cri.Image{img("a", 100), img("b", 100)}}
		m := n.manager(t, policy)
		ready := make(chan struct{})
		m.cfg.Ready = ready
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = m.Run(ctx) }()
		time.Sleep(2*period + time.Minute)
		if _, err := m.GarbageCollect(t.Context()); !errors.Is(err, errUnknown) {
			t.Errorf("GarbageCollect: %v", err)
		}
		if err := m.DeleteUnused(t.Context()); !errors.Is(err, errUnknown) {
			t.Errorf("DeleteUnused: %v", err)
		}
		n.expect(t, "a source is silent", "")
		if events := n.told(); len(events) > 0 {
			t.Errorf("that is no failure: %q", events)
		}
		n.mu.Lock()
		n.wanted = []string{"sha256:a"}
		n.mu.Unlock()
		close(ready)
		synctest.Wait()
		n.expect(t, "every source has spoken", "b")
		time.Sleep(time.Second)
		n.mu.Lock()
		n.wanted, n.other = nil, 900
		n.mu.Unlock()
		time.Sleep(period / 2)
		n.expect(t, "it waits as ever", "b")
		time.Sleep(period / 2)
		synctest.Wait()
		n.expect(t, "the next look", "b a")
		cancel()
		synctest.Wait()
	})
}

func TestARefusalIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 700, images: []*cri.Image{img("a", 100), img("b", 100)},
			refuse: map[string]error{"sha256:a": status.Error(codes.FailedPrecondition, "container somebody's (exited) uses it")}}
		m := n.manager(t, policy)
		_, _ = m.GarbageCollect(t.Context())
		time.Sleep(period)
		if freed := mustCollect(t, m); freed != 100 {
			t.Errorf("%d bytes are said to be freed, want 100", freed)
		}
		n.expect(t, "the next one goes", "b")
		if err := m.DeleteUnused(t.Context()); err != nil {
			t.Errorf("DeleteUnused: %v", err)
		}
	})
}

func TestAFailureDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 700, images: []*cri.Image{img("a", 100), img("b", 100)}, refuse: map[string]error{"sha256:a": errors.New("read-only file system")}}
		m := n.manager(t, policy)
		_, _ = m.GarbageCollect(t.Context())
		time.Sleep(period)
		n.events = nil
		freed, err := m.GarbageCollect(t.Context())
		if err == nil || freed != 100 || err.Error() != "wanted to free 100 bytes, but freed 100 bytes space with errors in image deletion: remove image sha256:a: read-only file system" {
			t.Errorf("freed %d, %v", freed, err)
		}
		n.expect(t, "the next one goes", "b")
		if len(n.events) > 0 {
			t.Errorf("events: %q", n.events)
		}
	})
}

func TestARuntimeThatHangsIsAskedOnceAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 700, images: []*cri.Image{img("a", 100), img("b", 100)},
			refuse: map[string]error{"sha256:a": status.Error(codes.DeadlineExceeded, "no answer"), "sha256:b": status.Error(codes.DeadlineExceeded, "no answer")}}
		asked := 0
		n.during = func(string) { asked++ }
		m := n.manager(t, Policy{HighPercent: 85, LowPercent: 80})
		if _, err := m.GarbageCollect(t.Context()); err == nil || asked != 1 {
			t.Errorf("%v, after %d removals", err, asked)
		}
		if err := m.DeleteUnused(t.Context()); err == nil || asked != 2 {
			t.Errorf("%v, after %d removals", err, asked)
		}
	})
}

// TestRunSaysWhatIsWrong: at the second failure in a row, not at each look that is one failure; and
// it looks again as soon as the images that are too young come of age.
func TestRunSaysWhatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, other: 800, images: []*cri.Image{img("a", 100), img("b", 100)}}
		m := n.manager(t, policy)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = m.Run(ctx) }()
		synctest.Wait()
		if events := n.told(); len(events) != 1 || !strings.HasPrefix(events[0], "FreeDiskSpaceFailed: ") {
			t.Errorf("first look: %q", events)
		}
		time.Sleep(policy.MinAge - time.Second)
		n.expect(t, "too young", "")
		time.Sleep(time.Second + settleFor)
		synctest.Wait()
		n.expect(t, "of age", "a b")
		if events := n.told(); len(events) > 0 {
			t.Errorf("there is room, and events are %q", events)
		}
		n.mu.Lock()
		n.other = 900
		n.mu.Unlock()
		for want := range 3 {
			time.Sleep(period + settleFor)
			synctest.Wait()
			events := n.told()
			failed := len(slices.DeleteFunc(slices.Clone(events), func(e string) bool { return !strings.HasPrefix(e, "ImageGCFailed: Insufficient free disk space") }))
			if failed != min(want, 1) || len(events) != 1+failed {
				t.Errorf("failure %d: %q", want+1, events)
			}
		}
		cancel()
		synctest.Wait()
	})
}

func TestAFileSystemWithoutCapacityIsTold(t *testing.T) {
	n := &node{}
	if _, err := n.manager(t, policy).GarbageCollect(t.Context()); err == nil || !slices.Equal(n.events, []string{"InvalidDiskCapacity: invalid capacity 0 on image filesystem"}) {
		t.Errorf("%v, events %q", err, n.events)
	}
	if fs, err := statfs("/no/such/place"); err != nil || fs.Capacity != 0 {
		t.Errorf("a file system that this machine does not know: %+v, %v", fs, err)
	}
	if fs, err := statfs(t.TempDir()); err != nil || fs.Capacity == 0 || fs.Available > fs.Capacity {
		t.Errorf("one that it knows: %+v, %v", fs, err)
	}
}

func TestImagesThatAreNotUsedForLongGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, images: []*cri.Image{img("a", 1), img("b", 1)}}
		p := policy
		p.MaxAge = time.Hour
		m := n.manager(t, p)
		n.uses("sha256:b")
		mustCollect(t, m)
		time.Sleep(time.Hour)
		mustCollect(t, m)
		n.expect(t, "an hour is not more than an hour", "")
		n.uses("sha256:c")
		time.Sleep(time.Second)
		mustCollect(t, m)
		n.expect(t, "b was in use until now", "a")
		time.Sleep(time.Hour)
		mustCollect(t, m)
		n.expect(t, "later", "a b")
		if got := testutil.ToFloat64(m.collected.WithLabelValues("age")); got != 2 {
			t.Errorf("counted: %v", got)
		}
	})
}

func TestDeleteUnusedTakesAllButTheYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, images: []*cri.Image{img("a", 1), img("used", 1)}}
		n.uses("sha256:used")
		m := n.manager(t, Policy{HighPercent: 100, LowPercent: 80, MinAge: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = m.Run(ctx) }() // which is off, but for its looks
		synctest.Wait()
		time.Sleep(time.Minute)
		n.mu.Lock()
		n.images = append(n.images, img("young", 1))
		n.mu.Unlock()
		if err := m.DeleteUnused(t.Context()); err != nil {
			t.Error(err)
		}
		n.expect(t, "unused", "a")
		cancel()
		synctest.Wait()
	})
}

func TestAnImageIsNotTakenFromAContainerThatIsBeingMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, images: []*cri.Image{img("a", 1), img("b", 1), img("c", 1), img("d", 1, "docker.io/library/late:1")}}
		m := n.manager(t, Policy{HighPercent: 85, LowPercent: 80, MinAge: time.Minute})
		mustCollect(t, m)
		time.Sleep(time.Hour)
		seen := time.Now()
		claims := make(chan bool, 2)
		n.during = func(id string) {
			if id != "sha256:a" {
				return
			}
			go func() { claims <- m.Claim(t.Context(), "sha256:a", seen) }()
			if !m.Claim(t.Context(), "sha256:b", seen) {
				t.Error("an image that is not being removed cannot be had")
			}
			n.mu.Lock()
			n.wanted = []string{"late:1"}
			n.mu.Unlock()
			time.Sleep(time.Second)
			if len(claims) > 0 {
				t.Error("nobody waits for the removal")
			}
		}
		if err := m.DeleteUnused(t.Context()); err != nil {
			t.Error(err)
		}
		n.expect(t, "b is claimed, and d wanted, after the look", "a c")
		if <-claims {
			t.Error("an image that was removed can be had")
		}
		time.Sleep(time.Millisecond)
		if !m.Claim(t.Context(), "sha256:a", time.Now()) {
			t.Error("an image that was pulled again cannot be had")
		}
		n.during = nil
		n.wanted = nil
		time.Sleep(time.Minute - 2*time.Second)
		if err := m.DeleteUnused(t.Context()); err != nil {
			t.Error(err)
		}
		n.expect(t, "the claim lasts for the minimum age", "a c d")
		time.Sleep(2 * time.Second)
		if err := m.DeleteUnused(t.Context()); err != nil {
			t.Error(err)
		}
		n.expect(t, "and no longer", "a c d b")
	})
}

func TestARefusedImageMayBeClaimedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, images: []*cri.Image{img("a", 1)}, refuse: map[string]error{"sha256:a": status.Error(codes.FailedPrecondition, "in use")}}
		m := n.manager(t, Policy{HighPercent: 85, LowPercent: 80})
		seen := time.Now()
		if err := m.DeleteUnused(t.Context()); err != nil {
			t.Error(err)
		}
		if m.Claim(t.Context(), "sha256:a", seen) {
			t.Error("nobody looks again whether it is still there")
		}
		time.Sleep(time.Millisecond)
		if !m.Claim(t.Context(), "sha256:a", time.Now()) {
			t.Error("it cannot be had")
		}
	})
}

func TestNobodyWaitsForARuntimeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{capacity: 1000, images: []*cri.Image{img("a", 1)}}
		m := n.manager(t, Policy{HighPercent: 85, LowPercent: 80})
		hang := make(chan struct{})
		n.during = func(string) { <-hang }
		go func() { _ = m.DeleteUnused(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if m.Claim(ctx, "sha256:a", time.Now()) {
			t.Error("an image that is being removed can be had")
		}
		if err := m.DeleteUnused(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second pass: %v", err)
		}
		close(hang)
		synctest.Wait()
	})
}

func TestTheSandboxImageOfARuntimeThatPinsNoneIsKept(t *testing.T) {
	for name, tt := range map[string]struct{ config, flag, kept string }{
		"it tells":        {`{"sandboxImage": "registry.k8s.io/pause:3.6"}`, "", "sha256:pause"},
		"the user tells":  {"", "own:1", "sha256:own"},
		"nobody tells":    {"{}", "", ""},
		"something else":  {`["sandboxImage"]`, "", ""},
		"somebody pinned": {`{"sandboxImage": "registry.k8s.io/pause:3.6"}`, "own:1", "sha256:pinned"},
	} {
		n := &node{config: tt.config, images: []*cri.Image{img("pause", 1, "registry.k8s.io/pause:3.6"), img("own", 1, "docker.io/library/own:1")}}
		if tt.kept == "sha256:pinned" {
			n.images = append(n.images, &cri.Image{Id: tt.kept, Size: 1, Pinned: true})
		}
		m := n.manager(t, Policy{HighPercent: 85, LowPercent: 80})
		m.cfg.SandboxImage = tt.flag
		for range 2 {
			if err := m.DeleteUnused(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		left := ""
		for _, i := range n.images {
			left += i.Id
		}
		if left != tt.kept {
			t.Errorf("%s: %q is left, want %q", name, left, tt.kept)
		}
	}
}

func TestPolicyIsChecked(t *testing.T) {
	for _, p := range []Policy{{HighPercent: 101}, {HighPercent: -1}, {HighPercent: 80, LowPercent: 85}, {MinAge: -1}, {MaxAge: -1}} {
		if _, err := New(Config{Runtime: &node{}, Policy: p}); err == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a manager without a runtime")
	}
}
