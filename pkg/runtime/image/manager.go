package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/util/flowcontrol"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
)

// Service is the part of CRI's image service that is needed here. A pull has no
// deadline: the runtime cancels one that makes no progress.
type Service interface {
	ImageStatus(ctx context.Context, r *cri.ImageStatusRequest, opts ...grpc.CallOption) (*cri.ImageStatusResponse, error)
	PullImage(ctx context.Context, r *cri.PullImageRequest, opts ...grpc.CallOption) (*cri.PullImageResponse, error)
}

// Keyring finds the credentials a pod has for an image's registry, best first.
// None means an anonymous pull.
type Keyring interface {
	Lookup(ctx context.Context, pod *v1.Pod, image string) ([]keyring.Credential, error)
}

// Records remember by which credentials images were pulled. *record.Store is one.
type Records interface {
	// MayUse reports whether a pod, whose credentials find returns, may use an image
	// that is present; image is the name in the pod's spec, ref the runtime's ID.
	MayUse(image, ref string, find func() ([]keyring.Credential, error)) bool
	// Begin is called before a pull, and after it either Pulled, with the
	// credential that was accepted (nil for none), or Failed.
	Begin(image string) error
	Pulled(image, ref string, used *keyring.Credential)
	Failed(image string)
}

// Collector removes images that nobody uses. *collect.Manager is one.
type Collector interface {
	// Claim keeps an image, which was there at that time, for a container that is about to
	// be made. false says that it may be gone since: look again.
	Claim(ctx context.Context, id string, seen time.Time) bool
}

// Waits is told for how long pods wait for images. *podstart.Tracker is one.
type Waits interface {
	// Pulling says that a pull begins, or one more after those that have failed.
	Pulling(pod types.UID, image string)
	// Present says that the pod has the image.
	Present(pod types.UID, image string)
}

type noWaits struct{}

func (noWaits) Pulling(types.UID, string) {}
func (noWaits) Present(types.UID, string) {}

// Config is what a Manager is built from.
type Config struct {
	Images  Service
	Journal *journal.Journal
	Clock   clock.PassiveClock // nil is the real one
	Keyring Keyring            // nil: anonymous pulls only
	// MissingSecrets returns the names of the pod's imagePullSecrets that cannot be had,
	// to be told when a pull fails; nil: none is.
	MissingSecrets func(context.Context, *v1.Pod) []string
	Records        Records // nil: every pod may use every image that is present
	// Collector is asked to keep what Ensure returns; nil: nobody removes images.
	Collector Collector
	Waits     Waits                 // nil: nobody is told
	Metrics   prometheus.Registerer // nil: nothing is counted

	BackoffInitial time.Duration // 0 is 10 s
	BackoffMax     time.Duration // 0 is 5 min

	// Serialize allows one pull at a time; otherwise MaxParallel at once, 0 any number.
	Serialize   bool
	MaxParallel int
	// Progress is told by the runtime how far its pulls are; nil: it does not say.
	Progress *Progress
	// QPS and Burst bound how often pulls begin; QPS 0 is no bound. Pulls beyond
	// the bound wait.
	QPS   float32
	Burst int
}

// Manager ensures images. Safe for concurrent use.
type Manager struct {
	journal   *journal.Journal
	clock     clock.PassiveClock
	keyring   Keyring
	missing   func(context.Context, *v1.Pod) []string
	records   Records
	collector Collector
	waits     Waits
	metrics   metrics
	backoff   backoff
	statuses  statuses
	pulls     pulls
}

// New returns a Manager. Images is required.
func New(c Config) (*Manager, error) {
	switch {
	case c.Images == nil:
		return nil, errors.New("image manager: Images is missing")
	case c.MaxParallel < 0 || c.QPS < 0 || c.Burst < 0:
		return nil, errors.New("image manager: MaxParallel, QPS and Burst cannot be negative")
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Waits == nil {
		c.Waits = noWaits{}
	}
	if c.BackoffInitial == 0 {
		c.BackoffInitial = 10 * time.Second
	}
	if c.BackoffMax == 0 {
		c.BackoffMax = 5 * time.Minute
	}
	counted, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		metrics:   counted,
		journal:   c.Journal,
		clock:     c.Clock,
		keyring:   c.Keyring,
		missing:   c.MissingSecrets,
		records:   c.Records,
		collector: c.Collector,
		waits:     c.Waits,
		backoff:   backoff{initial: c.BackoffInitial, most: c.BackoffMax, entries: map[pair]*failure{}},
		statuses:  statuses{images: c.Images, now: c.Clock.Now, known: map[string]found{}, asking: map[string]*question{}},
		pulls:     pulls{images: c.Images, now: c.Clock.Now, far: c.Progress, running: map[pullKey]*pull{}},
	}
	if c.Serialize {
		c.MaxParallel = 1
	}
	if c.MaxParallel > 0 {
		m.pulls.slots = make(chan struct{}, c.MaxParallel)
	}
	if c.QPS > 0 {
		m.pulls.limiter = flowcontrol.NewTokenBucketRateLimiter(c.QPS, max(c.Burst, 1))
	}
	return m, nil
}

// Ensure returns the runtime's reference of the container's image once it is on the
// node, and pulls it if the container's policy says so. The error is an Error, or
// ctx's when that ends first. sandbox is passed to the runtime with a pull.
func (m *Manager) Ensure(ctx context.Context, pod *v1.Pod, c *v1.Container, sandbox *cri.PodSandboxConfig) (string, error) {
	pull, present, required := c.ImagePullPolicy, unknown, unknown
	defer func() { m.metrics.ensure(pull, present, required) }()
	name, err := withDefaultTag(c.Image)
	if err != nil {
		return "", m.refuse(ctx, pod, c, ReasonInvalidName, "InspectFailed", fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err))
	}
	pull = policy(c, name)
	find := m.lookup(ctx, pod, name)
	if pull != v1.PullAlways {
		img, mine, err := m.present(ctx, c.Image, name, find)
		switch {
		case ctx.Err() != nil:
			return "", fmt.Errorf("look for image %q: %w", c.Image, context.Cause(ctx))
		case err != nil:
			return "", m.refuse(ctx, pod, c, ReasonInspect, "InspectFailed", fmt.Sprintf("Failed to inspect image %q: %s", c.Image, text(err)))
		case mine:
			present, required = yes, no
			m.waits.Present(pod.UID, name)
			m.journal.Container(pod, c.Name).By(journal.Of(ctx)).Normal("Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
			return img.Id, nil
		}
		present = answerOf(img != nil)
		if pull == v1.PullNever { // also hides from a pod an image that it may not use
			if img != nil {
				required = yes
			}
			return "", m.refuse(ctx, pod, c, ReasonNeverPull, "ErrImageNeverPull", fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image))
		}
	}
	required = yes
	return m.pull(ctx, pod, c, name, find, sandbox)
}

// present returns the image if it is on the node, and whether the pod may use it. Such a one is
// claimed.
func (m *Manager) present(ctx context.Context, image, name string, find lookup) (img *cri.Image, mine bool, err error) {
	for {
		f, err := m.statuses.find(ctx, name)
		if err != nil || f.image == nil {
			return nil, false, err
		}
		if m.records != nil && !m.records.MayUse(image, f.image.Id, find) {
			return f.image, false, nil
		}
		if m.claim(ctx, f) {
			return f.image, true, nil
		}
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		m.statuses.forget(name)
	}
}

func (m *Manager) claim(ctx context.Context, f found) bool {
	return m.collector == nil || m.collector.Claim(ctx, f.image.Id, f.at)
}

// Image returns the runtime's status of an image by name or by what Ensure
// returned, from memory if Ensure was called just before. An image that is not
// on the node is an error.
func (m *Manager) Image(ctx context.Context, ref string) (*cri.Image, error) {
	img, err := m.statuses.get(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("inspect image %q: %w", ref, err)
	}
	if img == nil {
		return nil, fmt.Errorf("inspect image %q: it is not on this node", ref)
	}
	return img, nil
}

func (m *Manager) pull(ctx context.Context, pod *v1.Pod, c *v1.Container, name string, find lookup, sandbox *cri.PodSandboxConfig) (string, error) {
	key := pair{pod.UID, name}
	if left, last := m.backoff.left(key, m.clock.Now()); left > 0 {
		message := fmt.Sprintf("Back-off pulling image %q", c.Image)
		m.journal.Container(pod, c.Name).By(journal.Of(ctx)).Normal("BackOff", message)
		return "", &Error{reason: ReasonPullBackOff, message: fmt.Sprintf("%s: %s: %s", message, last.reason, last.message), retry: left}
	}
	m.waits.Pulling(pod.UID, name)
	m.journal.Container(pod, c.Name).By(journal.Of(ctx)).Normal("Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	klog.V(2).InfoS("Pulling image", "pod", klog.KObj(pod), "podUID", pod.UID, "containerName", c.Name, "image", c.Image)
	if m.records != nil {
		if err := m.records.Begin(c.Image); err != nil {
			return "", m.refuse(ctx, pod, c, ReasonPull, "Failed", fmt.Sprintf("Failed to record image pull intent for container image %q: %v", c.Image, err))
		}
	}
	began := m.clock.Now()
	span := m.journal.Begin(journal.Within(ctx, journal.Event{Kind: journal.Pull, Pod: pod.UID, Name: c.Image}))
	ref, used, took, err := m.pullWithCredentials(journal.In(ctx, span), name, find, sandbox)
	span.End(err)
	if err != nil && m.records != nil {
		m.records.Failed(c.Image)
	}
	if ctx.Err() != nil && err != nil {
		return "", fmt.Errorf("pull image %q: %w", c.Image, context.Cause(ctx))
	}
	if err != nil {
		e := pullError(c.Image, err)
		m.journal.Container(pod, c.Name).By(journal.Of(ctx)).Warn("Failed", fmt.Sprintf("Failed to pull image %q: %s", c.Image, text(err)))
		m.warnOfMissingSecrets(ctx, pod)
		e.retry = m.backoff.failed(key, e, m.clock.Now())
		return "", e
	}
	m.waits.Present(pod.UID, name)
	m.backoff.succeeded(key)
	m.statuses.forget(name)
	size := uint64(0)
	// The pull's reference may be a digest; containers are made with the image ID,
	// which shows that they use the image.
	f, err := m.statuses.find(ctx, name)
	known := err == nil && f.image != nil
	if known {
		ref, size = f.image.Id, f.image.Size
	}
	if m.records != nil {
		m.records.Pulled(c.Image, ref, used)
	}
	m.metrics.pulled(size, m.clock.Since(began))
	m.journal.Container(pod, c.Name).By(journal.Of(ctx)).Normal("Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		c.Image, took.Truncate(time.Millisecond), m.clock.Since(began).Truncate(time.Millisecond), size))
	if known && !m.claim(ctx, f) {
		// It was here before, and unused for long; the next try pulls it anew.
		m.statuses.forget(name)
		return "", &Error{reason: ReasonPull, message: fmt.Sprintf("image %q was removed as unused while it was pulled", c.Image), retry: time.Second}
	}
	return ref, nil
}

// warnOfMissingSecrets tells of Secrets without which a pull may have failed.
func (m *Manager) warnOfMissingSecrets(ctx context.Context, pod *v1.Pod) {
	if m.missing == nil {
		return
	}
	if names := m.missing(ctx, pod); len(names) > 0 && ctx.Err() == nil {
		m.journal.Warn(pod, "FailedToRetrieveImagePullSecret",
			fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(names, ", ")))
	}
}

// pullWithCredentials tries each of the pod's credentials until one is accepted,
// which it returns. As in the kubelet, it tries the next one after any failure, and
// does not pull anonymously after them.
func (m *Manager) pullWithCredentials(ctx context.Context, name string, find lookup, sandbox *cri.PodSandboxConfig) (ref string, used *keyring.Credential, took time.Duration, err error) {
	found, err := find()
	if err != nil {
		return "", nil, 0, fmt.Errorf("look up credentials: %w", err)
	}
	if len(found) == 0 {
		ref, took, err = m.pulls.pull(ctx, name, nil, sandbox)
		return ref, nil, took, err
	}
	var failed []error
	for i := range found {
		ref, took, err := m.pulls.pull(ctx, name, found[i].Auth, sandbox)
		if err == nil || ctx.Err() != nil {
			return ref, &found[i], took, err
		}
		failed = append(failed, errors.New(text(err)))
	}
	return "", nil, 0, utilerrors.NewAggregate(failed)
}

// lookup returns a pod's credentials for one image; however often it is called, it
// looks them up once.
type lookup func() ([]keyring.Credential, error)

func (m *Manager) lookup(ctx context.Context, pod *v1.Pod, name string) lookup {
	return sync.OnceValues(func() ([]keyring.Credential, error) {
		if m.keyring == nil {
			return nil, nil
		}
		return m.keyring.Lookup(ctx, pod, name)
	})
}

// pullError gives the two failures that a runtime distinguishes their own reasons.
func pullError(image string, err error) *Error {
	message := text(err)
	for reason, known := range map[string]error{ReasonNoRegistry: crierrors.ErrRegistryUnavailable, ReasonBadSignature: crierrors.ErrSignatureValidationFailed} {
		if rest, ok := strings.CutPrefix(message, known.Error()); ok {
			cause := map[string]string{
				ReasonNoRegistry:   "the registry is unavailable",
				ReasonBadSignature: "the signature validation failed",
			}[reason]
			return &Error{reason: reason, message: fmt.Sprintf("image pull failed for %s because %s%s", image, cause, rest)}
		}
	}
	return &Error{reason: ReasonPull, message: message}
}

func (m *Manager) refuse(ctx context.Context, pod *v1.Pod, c *v1.Container, reason, event, message string) error {
	m.journal.Container(pod, c.Name).By(journal.Of(ctx)).Warn(event, message)
	return &Error{reason: reason, message: message}
}
