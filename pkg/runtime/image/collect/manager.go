package collect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Runtime is what is asked of the runtime. RemoveImage has to refuse an image that somebody
// uses with FailedPrecondition, or to leave it alone.
type Runtime interface {
	ListImages(ctx context.Context, r *cri.ListImagesRequest, opts ...grpc.CallOption) (*cri.ListImagesResponse, error)
	ImageStatus(ctx context.Context, r *cri.ImageStatusRequest, opts ...grpc.CallOption) (*cri.ImageStatusResponse, error)
	RemoveImage(ctx context.Context, r *cri.RemoveImageRequest, opts ...grpc.CallOption) (*cri.RemoveImageResponse, error)
	ImageFsInfo(ctx context.Context, r *cri.ImageFsInfoRequest, opts ...grpc.CallOption) (*cri.ImageFsInfoResponse, error)
	Status(ctx context.Context, r *cri.StatusRequest, opts ...grpc.CallOption) (*cri.StatusResponse, error)
	ListContainers(ctx context.Context, r *cri.ListContainersRequest, opts ...grpc.CallOption) (*cri.ListContainersResponse, error)
	ContainerStatus(ctx context.Context, r *cri.ContainerStatusRequest, opts ...grpc.CallOption) (*cri.ContainerStatusResponse, error)
}

// Records remember how images were pulled. *record.Store is one.
type Records interface {
	// Drop forgets an image that is gone since that time.
	Drop(id string, since time.Time)
}

// Config is what a Manager is built from.
type Config struct {
	Runtime Runtime
	Policy  Policy
	// Wanted returns the names of all images of the pods that this node is to run, as their
	// specs have them; nil: none.
	Wanted func() []string
	// Ready is closed once Wanted knows all of them: nothing is removed before. nil: it always does.
	Ready <-chan struct{}
	// SandboxImage is the name of an image that is kept where the runtime pins none; may be empty.
	SandboxImage string
	Records      Records               // nil: there are none
	NodeEvent    journal.NodeEvent     // may be nil
	Metrics      prometheus.Registerer // nil: not counted
	Traces       trace.TracerProvider  // makes each pass of the policy a span; nil: none is
	// Statfs looks at the file system of a path; nil is the kernel.
	Statfs func(path string) (FileSystem, error)
}

// Manager removes images. Safe for concurrent use: one pass runs at a time.
type Manager struct {
	cfg       Config
	passing   chan struct{} // full during a pass
	collected *prometheus.CounterVec
	// Only for a pass:
	sandbox *string            // the runtime's sandbox image; nil: it has not been asked
	silent  map[string]silence // containers that cannot be asked what they have mounted

	mu     sync.Mutex
	images map[string]*entry        // by ID, those of the last look
	going  map[string]chan struct{} // images that are being removed; closed afterwards
	gone   map[string]time.Time     // images that were removed lately: since when they may have been gone
}

// entry is an image that has been seen.
type entry struct {
	Image
	names   []string      // normalized
	refused logonce.Error // its removal
}

// New returns a Manager. Runtime is required.
func New(cfg Config) (*Manager, error) {
	if cfg.Runtime == nil {
		return nil, errors.New("image collection: Runtime is missing")
	}
	if err := cfg.Policy.check(); err != nil {
		return nil, fmt.Errorf("image collection: %w", err)
	}
	if cfg.Statfs == nil {
		cfg.Statfs = statfs
	}
	if cfg.Wanted == nil {
		cfg.Wanted = func() []string { return nil }
	}
	m := &Manager{
		cfg: cfg, passing: make(chan struct{}, 1), silent: map[string]silence{},
		images: map[string]*entry{}, going: map[string]chan struct{}{}, gone: map[string]time.Time{},
		collected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_image_garbage_collected_total", Help: "Number of images that were removed as unused, by why: space or age."}, []string{"reason"}),
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(m.collected); err != nil {
			return nil, fmt.Errorf("image collection: register metrics: %w", err)
		}
	}
	return m, nil
}

// The values of the metric's label, the kubelet's.
const (
	forReasonSpace = "space"
	forReasonAge   = "age"
)

// period is the kubelet's ImageGCPeriod.
const period = 5 * time.Minute

// soonest is how long there is between two passes at least.
const soonest = time.Second

// Run collects at once and every five minutes until ctx ends; earlier when it becomes known which
// images are wanted, and where room is missing and there are images that only have to come of age.
// As in the kubelet, a high threshold of 100 without a maximum age turns it off: DeleteUnused still
// works.
func (m *Manager) Run(ctx context.Context) error {
	var failing logonce.Error
	failed := false
	for {
		var ready <-chan struct{}
		known := m.known()
		if !known {
			ready = m.cfg.Ready
		}
		next, err := m.turn(ctx, known)
		if ctx.Err() != nil {
			return nil
		}
		if failing.Note(err) {
			klog.ErrorS(err, "Image garbage collection failed, trying again", "in", next.Round(time.Second))
		}
		if err != nil && failed { // one failure may pass, as in the kubelet
			m.cfg.NodeEvent.Warn("ImageGCFailed", err.Error())
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ready:
		case <-time.After(next):
		}
	}
}

// errUnknown is why nothing is removed at the start of the agent.
var errUnknown = errors.New("not every source of pods has spoken yet: it is not known which images they want")

// known reports whether it is known which images are wanted.
func (m *Manager) known() bool {
	select {
	case <-m.cfg.Ready:
		return true
	default:
		return m.cfg.Ready == nil
	}
}

// turn is one pass of Run, which only looks while it is not known which images are wanted: their
// age begins. It returns how long to wait before the next one.
func (m *Manager) turn(ctx context.Context, known bool) (next time.Duration, err error) {
	if m.cfg.Traces != nil {
		var span trace.Span
		ctx, span = m.cfg.Traces.Tracer("k8s.io/kubernetes/pkg/kubelet/images").Start(ctx, "Images/GarbageCollect") // the kubelet's names
		defer span.End()
	}
	p, err := m.begin(ctx)
	if err != nil {
		return period, err
	}
	defer p.end()
	if known && !m.cfg.Policy.disabled() {
		err = p.collect(ctx)
	}
	if p.ripe.IsZero() {
		return period, err
	}
	return min(period, max(soonest, time.Until(p.ripe))), err
}

// GarbageCollect applies the policy and returns by how many bytes the file system has become
// emptier, as far as can be told: others write to it, too. It is an error if that is not
// enough for the low threshold.
func (m *Manager) GarbageCollect(ctx context.Context) (freed uint64, err error) {
	if !m.known() {
		return 0, errUnknown
	}
	p, err := m.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer p.end()
	err = p.collect(ctx)
	return p.freed, err
}

// DeleteUnused removes all images that nobody uses, whatever room there is, for the node to
// reclaim room under disk pressure; as in the kubelet, those below the minimum age stay. That
// the runtime refuses some because others use them is no error.
func (m *Manager) DeleteUnused(ctx context.Context) error {
	if !m.known() {
		return errUnknown
	}
	p, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer p.end()
	remove, _ := forSpace(p.images, m.cfg.Policy, p.at, math.MaxUint64)
	failed := p.remove(ctx, remove, forReasonSpace)
	if len(failed) > 0 {
		return fmt.Errorf("delete unused images: %w", utilerrors.NewAggregate(failed))
	}
	return nil
}
