package imageservice

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/docker"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// PullImage pulls an image by tag or digest and returns its ID, which is also the ID in
// ImageStatus and the image_id of containers. It goes on as long as bytes arrive or layers are
// unpacked, and fails with DeadlineExceeded when nothing has come from the registry for
// PullProgressDeadline. The built-in sandbox image is loaded instead: whoever could pull another
// image under its name would run in all pods.
func (s *Service) PullImage(ctx context.Context, req *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	t, err := requested(req.GetImage())
	if err != nil {
		return nil, err
	}
	if t.name == nil {
		return nil, grpccode.Invalid("image.image", "%q is an image id, which no registry knows", req.Image.Image)
	}
	if handler := req.Image.RuntimeHandler; handler != "" {
		_, runtimes, err := s.askEngine(ctx)
		if err != nil {
			return nil, err
		}
		if !runtimes[handler] {
			return nil, grpccode.Invalid("image.runtime_handler", "Docker has no runtime %q", handler)
		}
	}
	if t.builtIn() {
		id, err := s.loadBuiltIn(ctx)
		if err != nil {
			return nil, err
		}
		return &cri.PullImageResponse{ImageRef: id}, nil
	}
	creds, foreign, err := pullCredentials(req.Auth, t.name)
	if err != nil {
		return nil, err
	}
	if foreign {
		klog.V(2).InfoS("Pulling without the given credentials: they are for another registry", "image", t.String(), "server", req.Auth.ServerAddress)
	}
	began := time.Now()
	id, err := s.pull(ctx, t, creds)
	if err != nil {
		return nil, err
	}
	klog.V(2).InfoS("Pulled image", "image", t.String(), "imageID", id, "duration", time.Since(began))
	return &cri.PullImageResponse{ImageRef: id}, nil
}

// pull returns the ID of the image that has the name afterwards.
func (s *Service) pull(ctx context.Context, t target, creds credentials) (id string, err error) {
	asking, call := docker.Begin(ctx, s.cfg.Observe, "POST /images/create", reference.FamiliarString(t.name))
	err = refused(s.transfer(asking, t.name, creds, call.Progress), t, creds)
	call.Ended(err)
	if err != nil {
		return "", err
	}
	found, err := s.find(ctx, t)
	if err != nil {
		return "", err
	}
	if found == nil {
		return "", grpccode.Refused(codes.NotFound, "pull image %s: it was removed as soon as it was there", t)
	}
	return found.ID, nil
}

// refused says why a pull failed, without its credentials; nil if it has not.
func refused(err error, t target, creds credentials) error {
	if err == nil {
		return nil
	}
	var s interface{ GRPCStatus() *status.Status }
	c := code(err, t, reference.FamiliarString(t.name))
	if errors.As(err, &s) {
		c = s.GRPCStatus().Code()
	}
	return grpccode.Refused(c, "pull image %s: %s", t, creds.redact(status.Convert(err).Message()))
}

// transfer lets Docker pull, watches it, and tells how far it is: once a second, and when all is there.
func (s *Service) transfer(ctx context.Context, name reference.Named, creds credentials, tell func(docker.Progress)) error {
	w, ctx := watch(ctx, reference.FamiliarString(name), s.cfg.PullProgressDeadline, tell)
	defer w.stop()
	body, err := s.docker.ImagePull(ctx, reference.FamiliarString(name), image.PullOptions{RegistryAuth: creds.header})
	if err != nil {
		return w.cause(err)
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var m pullMessage
		switch err := dec.Decode(&m); {
		case err == io.EOF:
			// A body that the end of the context cuts off looks like a complete one.
			err = w.cause(ctx.Err())
			if err == nil {
				tell(w.progress.far())
			}
			return err
		case err != nil:
			return w.cause(err)
		case m.Error != "":
			return errors.New(m.Error)
		}
		w.see(m)
	}
}

// watchdog ends the context of a pull when nothing comes from the registry any more.
type watchdog struct {
	image    string
	deadline time.Duration
	ctx      context.Context
	cancel   context.CancelCauseFunc
	tell     func(docker.Progress)

	mu       sync.Mutex
	progress progress
	moved    time.Time
	told     time.Time // when somebody was told how far it is
	timer    *time.Timer
}

// tellEvery is how often it is told how far a pull is. Docker says it ten times a second, for each layer.
const tellEvery = time.Second

func watch(parent context.Context, image string, deadline time.Duration, tell func(docker.Progress)) (*watchdog, context.Context) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watchdog{image: image, deadline: deadline, ctx: ctx, cancel: cancel, tell: tell, moved: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(deadline, w.check)
	return w, ctx
}

func (w *watchdog) see(m pullMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.progress.see(m) {
		w.moved = time.Now()
		if w.moved.Sub(w.told) >= tellEvery {
			if far := w.progress.far(); far.Known > 0 {
				w.told = w.moved
				w.tell(far)
			}
		}
		klog.V(4).InfoS("Pull progress", "image", w.image, "progress", w.progress.last)
	}
}

// check runs when the deadline may have passed. Messages only note the time, which costs less
// than resetting the timer for each of thousands.
func (w *watchdog) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	quiet := time.Since(w.moved)
	switch {
	case quiet < w.deadline:
		w.timer.Reset(w.deadline - quiet)
	case w.progress.local():
		klog.V(2).InfoS("Pull is silent while layers are unpacked", "image", w.image, "quiet", quiet, "progress", w.progress.last)
		w.timer.Reset(w.deadline)
	default:
		last := w.progress.last
		if last == "" {
			last = "no answer yet"
		}
		w.cancel(grpccode.Refused(codes.DeadlineExceeded, "no progress for %v, given up (last: %s)", w.deadline, last))
	}
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.cancel(nil)
}

// cause returns why the context of the pull ended, or err if it did not end.
func (w *watchdog) cause(err error) error {
	if cause := context.Cause(w.ctx); cause != nil {
		return cause
	}
	return err
}
