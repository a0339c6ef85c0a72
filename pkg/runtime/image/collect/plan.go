package collect

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// Policy says when images are removed (KubeletConfiguration).
type Policy struct {
	// HighPercent is the usage of the file system at which images are removed, until
	// LowPercent is reached (imageGCHighThresholdPercent, imageGCLowThresholdPercent).
	HighPercent, LowPercent int
	// MinAge is for how long an image is kept after it was first seen, or claimed
	// (imageMinimumGCAge).
	MinAge time.Duration
	// MaxAge is after how long an image that nobody uses is removed whatever room there
	// is; 0 is never (imageMaximumGCAge).
	MaxAge time.Duration
}

// check refuses what cannot be meant.
func (p Policy) check() error {
	switch {
	case p.HighPercent < 0 || p.HighPercent > 100 || p.LowPercent < 0 || p.LowPercent > 100:
		return errors.New("the thresholds must be percentages")
	case p.LowPercent > p.HighPercent:
		return fmt.Errorf("the low threshold, %d %%, is above the high one, %d %%", p.LowPercent, p.HighPercent)
	case p.MinAge < 0 || p.MaxAge < 0:
		return errors.New("ages cannot be negative")
	}
	return nil
}

// disabled reports whether no usage and no age lets an image be removed.
func (p Policy) disabled() bool { return p.HighPercent == 100 && p.MaxAge == 0 }

// Image is what is known of an image.
type Image struct {
	ID       string
	Size     uint64    // in bytes; layers that images share count for each
	Detected time.Time // when the agent first saw it
	Used     time.Time // when somebody was last seen to use it; zero: never
	Claimed  time.Time // when a container was last about to be made from it
	Kept     bool      // it is in use or pinned
}

// FileSystem is what a file system has, in bytes.
type FileSystem struct{ Capacity, Available uint64 }

// usage returns how full the file system is, rounded up as in the kubelet. Capacity must not be 0.
func (f FileSystem) usage() int {
	return 100 - int(share(min(f.Available, f.Capacity), 100, f.Capacity))
}

// excess returns how many bytes have to be freed; 0 while the usage is below the high
// threshold.
func (p Policy) excess(f FileSystem) uint64 {
	if f.usage() < p.HighPercent {
		return 0
	}
	want := share(f.Capacity, uint64(100-p.LowPercent), 100)
	return want - min(want, f.Available)
}

// share returns n*of/all, where n <= all or of <= all, and all is not 0.
func share(n, of, all uint64) uint64 {
	high, low := bits.Mul64(n, of)
	q, _ := bits.Div64(high, low, all)
	return q
}

// removable returns the images that may be removed, the least recently used first, then those
// seen first: what was never used goes before all others.
func removable(images []Image) []Image {
	list := slices.DeleteFunc(slices.Clone(images), func(i Image) bool { return i.Kept })
	slices.SortFunc(list, func(a, b Image) int {
		return cmp.Or(a.Used.Compare(b.Used), a.Detected.Compare(b.Detected), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// forSpace plans which images to remove to free so many bytes, in this order. If they are not
// enough, ripe is when the last of those comes of age that are only too young; else it is zero.
func forSpace(images []Image, p Policy, now time.Time, bytes uint64) (remove []Image, ripe time.Time) {
	var sum uint64
	for _, i := range removable(images) {
		of := later(i.Detected, i.Claimed).Add(p.MinAge)
		if of.After(now) {
			ripe = later(ripe, of)
			continue
		}
		remove = append(remove, i)
		if sum += min(i.Size, math.MaxUint64-sum); sum >= bytes {
			return remove, time.Time{}
		}
	}
	return remove, ripe
}

// allowance returns for how many bytes of images to plan next, when so many are to be freed, and
// so many have been by images of that size. 0: for none. A pass takes images of about twice the
// size that is wanted, no more: what is freed may not show because others write, or because the
// file system is slow to tell, and then it helps nobody that all go. The kubelet goes by sizes alone.
func allowance(bytes, freed, size uint64) uint64 {
	limit := bytes + min(bytes, math.MaxUint64-bytes)
	if freed >= bytes || size >= limit {
		return 0
	}
	return min(bytes-freed, limit-size)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forAge plans which images to remove because they have not been used for too long. An image
// that was never used counts from when it was first seen.
func forAge(images []Image, p Policy, now time.Time) (remove []Image) {
	if p.MaxAge == 0 {
		return nil
	}
	for _, i := range removable(images) {
		if now.Sub(later(i.Detected, i.Used)) > p.MaxAge {
			remove = append(remove, i)
		}
	}
	return remove
}

// readable returns a size as the kubelet writes it in its events.
func readable(bytes uint64) string {
	if bytes < 1<<10 {
		return fmt.Sprintf("%d B", bytes)
	}
	size, unit := float64(bytes)/(1<<10), 0
	for ; size >= 1<<10 && unit < 3; unit++ {
		size /= 1 << 10
	}
	return fmt.Sprintf("%.1f %s", size, []string{"KiB", "MiB", "GiB", "TiB"}[unit])
}
