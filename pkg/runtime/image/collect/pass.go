package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// pass is one look at the images and what follows from it.
type pass struct {
	m      *Manager
	at     time.Time       // when it began
	images []Image         // that are left to decide about
	users  []string        // containers
	mounts map[string]bool // what they have mounted; nil: they have not been asked
	freed  uint64
	size   uint64    // of the images that were removed
	ripe   time.Time // when there may be more to remove; zero: that is not known, or not needed
}

// begin waits for the pass before to end, and looks at the images. The pass has to be ended
// unless there is an error.
func (m *Manager) begin(ctx context.Context) (*pass, error) {
	select {
	case m.passing <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	p := &pass{m: m, at: time.Now()}
	if err := p.look(ctx); err != nil {
		p.end()
		return nil, fmt.Errorf("look which images are in use: %w", err)
	}
	return p, nil
}

func (p *pass) end() { <-p.m.passing }

// collect applies the policy.
func (p *pass) collect(ctx context.Context) error {
	policy := p.m.cfg.Policy
	mount, before, err := p.m.imageFS(ctx)
	old := forAge(p.images, policy, p.at)
	// Whatever is wrong with the file system, its age is a reason for itself.
	failed := p.remove(ctx, old, forReasonAge)
	if len(failed) > 0 {
		return fmt.Errorf("wanted to free images older than %v, encountered errors in image deletion: %w", policy.MaxAge, utilerrors.NewAggregate(failed))
	}
	if err != nil {
		return err
	}
	now := before
	if len(old) > 0 {
		if now, err = p.m.cfg.Statfs(mount); err != nil {
			return fmt.Errorf("look at the file system of the images: %w", err)
		}
		p.freed = gain(before, now)
	}
	if now.Capacity == 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		p.m.cfg.NodeEvent.Warn("InvalidDiskCapacity", err.Error())
		return err
	}
	excess := policy.excess(now)
	if excess == 0 {
		return nil
	}
	klog.V(2).InfoS("The image file system is fuller than the high threshold, removing unused images",
		"path", mount, "usage", now.usage(), "highThreshold", policy.HighPercent, "lowThreshold", policy.LowPercent, "bytesToFree", excess)
	return p.makeRoom(ctx, mount, now, excess)
}

// makeRoom removes images until the file system has so many bytes more than before. What counts
// is what it has: layers that other images share stay, and go by no size.
func (p *pass) makeRoom(ctx context.Context, mount string, before FileSystem, bytes uint64) error {
	earlier, size := p.freed, p.size
	var freed uint64
	var failed []error
	spent := false
	for ctx.Err() == nil {
		plan := allowance(bytes, freed, p.size-size)
		if spent = plan == 0 && freed < bytes; plan == 0 {
			break
		}
		var remove []Image
		remove, p.ripe = forSpace(p.images, p.m.cfg.Policy, p.at, plan)
		if len(remove) == 0 {
			break
		}
		failed = append(failed, p.remove(ctx, remove, forReasonSpace)...)
		freed = p.m.settle(ctx, mount, before, bytes)
		p.freed = earlier + freed
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(failed) > 0:
		return fmt.Errorf("wanted to free %d bytes, but freed %d bytes space with errors in image deletion: %w", bytes, freed, utilerrors.NewAggregate(failed))
	case freed >= bytes:
		klog.InfoS("Removed unused images", "path", mount, "bytesFreed", freed)
		return nil
	case spent:
		return fmt.Errorf("wanted to free %d bytes, but freed %d bytes by removing images of %d bytes: "+
			"images share layers, others fill the file system, or what is freed shows late; the other unused images stay until the next look",
			bytes, freed, p.size-size)
	}
	message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
		"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
		before.usage(), readable(before.Capacity), freed)
	p.m.cfg.NodeEvent.Warn("FreeDiskSpaceFailed", message)
	return errors.New(message)
}

// settleFor is how long some file systems take to tell that they have become emptier.
const settleFor = 2 * time.Second

// settle returns how many bytes the file system has gained, at once when these are as many as
// wanted.
func (m *Manager) settle(ctx context.Context, mount string, before FileSystem, want uint64) (freed uint64) {
	ctx, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	for {
		if now, err := m.cfg.Statfs(mount); err == nil {
			freed = gain(before, now)
		}
		if freed >= want {
			return freed
		}
		select {
		case <-ctx.Done():
			return freed
		case <-time.After(settleFor / 20):
		}
	}
}

func gain(before, now FileSystem) uint64 {
	return max(now.Available, before.Available) - before.Available
}

// remove removes images one after the other, as far as it can, and returns what went wrong.
// Afterwards they are nothing any more that this pass decides about. Where it cannot be known what
// containers have mounted, it ends: any image could be that.
func (p *pass) remove(ctx context.Context, images []Image, reason string) (failed []error) {
	if len(images) == 0 {
		return nil
	}
	if p.mounts == nil {
		mounts, err := p.m.mounted(ctx, p.users)
		if err != nil {
			p.images = nil
			return []error{err}
		}
		p.mounts = mounts
	}
	for _, i := range images {
		if ctx.Err() != nil {
			return append(failed, context.Cause(ctx))
		}
		p.images = slices.DeleteFunc(p.images, func(other Image) bool { return other.ID == i.ID })
		if p.mounts[bare(i.ID)] {
			p.m.touch(i.ID)
			continue
		}
		removed, err := p.m.remove(ctx, i, p.at, reason)
		if removed {
			p.size += min(i.Size, math.MaxUint64-p.size)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("remove image %s: %w", i.ID, err))
			if code := status.Code(err); code == codes.DeadlineExceeded || code == codes.Unavailable {
				p.images = nil // it would take as long for each of the others
				return failed
			}
		}
	}
	return failed
}

// remove removes an image, unless somebody has come to want it since a time, and reports whether
// it did.
func (m *Manager) remove(ctx context.Context, i Image, since time.Time, reason string) (removed bool, err error) {
	e, done := m.take(i.ID, since)
	if e == nil {
		return false, nil
	}
	began := time.Now()
	_, err = m.cfg.Runtime.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: i.ID}})
	removed = err == nil
	defer done(removed)
	switch {
	case status.Code(err) == codes.FailedPrecondition:
		if e.refused.Note(err) {
			klog.InfoS("The runtime keeps an image that no pod uses", "imageID", i.ID, "names", e.names, "err", err)
		}
		return false, nil
	case err != nil:
		return false, err
	}
	klog.InfoS("Removed an unused image", "imageID", i.ID, "names", e.names, "size", i.Size, "reason", reason)
	m.collected.WithLabelValues(reason).Inc()
	if m.cfg.Records == nil {
		return true, nil
	}
	// The base of other images may have lost its names only. As long as it can be used, it
	// has to be known who may.
	left, unknown := m.cfg.Runtime.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: i.ID}})
	if unknown == nil && left.GetImage().GetId() == "" {
		m.cfg.Records.Drop(i.ID, began)
	}
	return true, nil
}

// imageFS looks at the file system of the images. One that this machine does not know has no
// capacity.
func (m *Manager) imageFS(ctx context.Context) (mount string, fs FileSystem, err error) {
	info, err := m.cfg.Runtime.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{})
	if err != nil {
		return "", fs, fmt.Errorf("ask the runtime for the file system of the images: %w", err)
	}
	// Containers may be on another one, about which image collection does not care.
	if len(info.ImageFilesystems) == 0 {
		return "", fs, errors.New("the runtime does not say on which file system its images are")
	}
	mount = info.ImageFilesystems[0].GetFsId().GetMountpoint()
	fs, err = m.cfg.Statfs(mount)
	if err != nil {
		return mount, fs, fmt.Errorf("look at the file system of the images: %w", err)
	}
	return mount, fs, nil
}

func statfs(path string) (FileSystem, error) {
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return FileSystem{}, nil
	case err != nil:
		return FileSystem{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	unit := uint64(max(s.Frsize, 1))
	return FileSystem{Capacity: s.Blocks * unit, Available: s.Bavail * unit}, nil
}
