package record

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
)

// Images is the part of CRI's image service that Recover needs.
type Images interface {
	ImageStatus(ctx context.Context, r *cri.ImageStatusRequest, opts ...grpc.CallOption) (*cri.ImageStatusResponse, error)
	ListImages(ctx context.Context, r *cri.ListImagesRequest, opts ...grpc.CallOption) (*cri.ListImagesResponse, error)
}

// Store holds the records, in memory and on disk. Safe for concurrent use; only
// calls that change a record wait for the disk.
type Store struct {
	policy          *options.ImageVerification
	pulling, pulled string // directories
	all             string // a file that is there while nobody knows what all was pulled: the directory was lost

	checks *prometheus.CounterVec

	disk sync.Mutex // held while changing records; locked before mu
	mu   sync.Mutex
	// By file name. A record in the map is never modified, only replaced.
	records map[string]*kubeletconfig.ImagePulledRecord
	lost    bool // all is there: an image without a record counts as one that was pulled
	intents map[string]*intent
}

// intent is an image that is being pulled, or was when an agent died.
type intent struct {
	image string // "" when its file cannot be read
	pulls int    // by this agent
}

// Open reads the records under the agent's root directory. r may be nil.
func Open(rootDir string, policy *options.ImageVerification, r prometheus.Registerer) (*Store, error) {
	s := &Store{
		policy:  policy,
		pulling: filepath.Join(rootDir, "image_manager", "pulling"),
		pulled:  filepath.Join(rootDir, "image_manager", "pulled"),
		all:     filepath.Join(rootDir, "mini-kubelet", "pulled-images-lost"),
		intents: map[string]*intent{},
	}
	if err := s.makeDirs(); err != nil {
		return nil, fmt.Errorf("make the directories of the records of images: %w", err)
	}
	left, err := load(s.pulling, "ImagePullIntent", func(i *kubeletconfig.ImagePullIntent) metav1.TypeMeta { return i.TypeMeta })
	if err != nil {
		return nil, fmt.Errorf("read the records of pulls: %w", err)
	}
	for name, i := range left {
		s.intents[name] = &intent{image: i.Image}
	}
	s.records, err = load(s.pulled, "ImagePulledRecord", func(r *kubeletconfig.ImagePulledRecord) metav1.TypeMeta { return r.TypeMeta })
	if err != nil {
		return nil, fmt.Errorf("read the records of pulled images: %w", err)
	}
	return s, s.export(r)
}

// makeDirs makes the directories. If all records of pulled images are lost at once, as
// something else is in the place of their directory, each image that is present may have been
// pulled with credentials that not every pod has: it counts as pulled by nobody known, and
// Recover gives it a record that says so.
func (s *Store) makeDirs() error {
	above := filepath.Dir(s.pulled)
	for _, dir := range []string{above, s.pulled} {
		fi, err := os.Stat(dir) // a link to something else is moved aside as well
		if err == nil && !fi.IsDir() || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			if err := durable.Write(s.all, nil); err != nil { // first: we may die in between
				return err
			}
		}
	}
	for _, dir := range []string{above, s.pulled, s.pulling} {
		const lost = "By which credentials images were pulled. No pod may use one that is present without another pull. " +
			"Where there is none to pull from, remove the files in image_manager/pulled and restart the agent: every pod may use what is present then."
		if err := durable.Dir(dir, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
			return err
		}
	}
	_, err := os.Lstat(s.all)
	s.lost = err == nil
	return nil
}

// of is called with mu held.
func (s *Store) of(ref string) *kubeletconfig.ImagePulledRecord {
	r := s.records[fileName(ref)]
	if r == nil && s.lost {
		return &kubeletconfig.ImagePulledRecord{}
	}
	return r
}

// MayUse reports whether a pod may use an image that is present without pulling it.
// image is the name in the pod's spec, ref the image's ID; find returns the pod's
// credentials and is called only if they matter.
func (s *Store) MayUse(image, ref string, find func() ([]keyring.Credential, error)) bool {
	s.mu.Lock()
	verdict, who := decide(s.policy, image, s.of(ref), s.intents[fileName(image)] != nil)
	s.mu.Unlock()
	switch {
	case verdict == closed:
		s.checked(mustAuthenticate)
		return false
	case verdict == open && who.NodePodsAccessible:
		s.checked(recordFound)
		return true
	case verdict == open:
		s.checked(policyAllowed)
		return true
	}
	found, err := find()
	if err != nil {
		s.checked(checkFailed)
		return false // the pull will report why
	}
	c := matching(who, found)
	if c == nil {
		s.checked(mustAuthenticate)
		return false
	}
	s.checked(recordFound)
	if len(who.KubernetesSecrets) < learnLimit || c.Secret == nil {
		// The Secret may have a new login, or the login a new Secret: record it, for
		// when the one on record is gone.
		if err := s.record(image, ref, c); err != nil {
			klog.ErrorS(err, "Could not add to the record of a pulled image", "image", image, "imageID", ref)
		}
	}
	return true
}

// learnLimit is how many Secrets a record may have before MayUse adds no more: the
// kubelet's figure.
const learnLimit = 100

// Begin notes that a pull is about to begin. Each ends with Pulled or Failed.
func (s *Store) Begin(image string) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	name := fileName(image)
	s.mu.Lock()
	i := s.intents[name]
	if i != nil {
		i.pulls++
	}
	s.mu.Unlock()
	if i != nil {
		return nil
	}
	if err := write(s.pulling, name, kubeletconfig.ImagePullIntent{TypeMeta: typeMeta("ImagePullIntent"), Image: image}); err != nil {
		return fmt.Errorf("failed to record image pull intent: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intents[name] = &intent{image: image, pulls: 1}
	return nil
}

// Pulled notes the credentials with which the image with that ID was pulled; nil is
// none. If that cannot be written, nobody is known to have pulled the image.
func (s *Store) Pulled(image, ref string, used *keyring.Credential) {
	if used == nil {
		used = &keyring.Credential{}
	}
	if err := s.record(image, ref, used); err != nil {
		klog.ErrorS(err, "Could not record a pulled image", "image", image, "imageID", ref)
		return
	}
	s.ended(image)
}

// Failed notes that a pull has failed.
func (s *Store) Failed(image string) { s.ended(image) }

func (s *Store) ended(image string) {
	s.disk.Lock()
	defer s.disk.Unlock()
	name := fileName(image)
	s.mu.Lock()
	i := s.intents[name]
	if i != nil {
		i.pulls--
	}
	last := i != nil && i.pulls <= 0
	s.mu.Unlock()
	if last {
		s.removeIntent(name)
	}
}

// removeIntent is called with disk locked.
func (s *Store) removeIntent(name string) {
	if err := remove(s.pulling, name); err != nil {
		klog.ErrorS(err, "Could not remove the record of a pull that has ended", "name", name)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.intents, name)
}

// record adds a credential to an image's record; a nil one only makes sure that
// there is a record.
func (s *Store) record(image, ref string, used *keyring.Credential) error {
	repo, err := options.Repository(image)
	if err != nil {
		return err
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	name := fileName(ref)
	s.mu.Lock()
	before := s.records[name]
	s.mu.Unlock()
	now := kubeletconfig.ImagePulledRecord{
		TypeMeta: typeMeta("ImagePulledRecord"), LastUpdatedTime: metav1.Now(), ImageRef: ref,
		CredentialMapping: map[string]kubeletconfig.ImagePullCredentials{},
	}
	changed := before == nil || before.ImageRef != ref
	if !changed {
		maps.Copy(now.CredentialMapping, before.CredentialMapping)
	}
	if used != nil {
		who, more := add(now.CredentialMapping[repo], used)
		now.CredentialMapping[repo] = who
		changed = changed || more
	}
	if !changed {
		return nil
	}
	if err := write(s.pulled, name, now); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[name] = &now
	return nil
}

// Recover finds out what became of the pulls during which an agent died, and drops
// the records of images that are gone. It is called once; pulls may go on
// meanwhile.
func (s *Store) Recover(ctx context.Context, images Images) error {
	s.mu.Lock()
	left := maps.Clone(s.intents)
	maps.DeleteFunc(left, func(_ string, i *intent) bool { return i.pulls > 0 || i.image == "" })
	s.mu.Unlock()
	for name, i := range left {
		r, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: i.image}})
		if err != nil {
			return fmt.Errorf("look for image %q: %w", i.image, err)
		}
		if id := r.GetImage().GetId(); id != "" {
			if err := s.record(i.image, id, nil); err != nil {
				return fmt.Errorf("record image %q: %w", i.image, err)
			}
		}
		s.forget(name)
	}
	asked := time.Now()
	list, err := images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	var ids []string
	for _, i := range list.Images {
		ids = append(ids, i.Id)
	}
	if len(ids) == 0 { // a runtime that lists none may not be ready yet
		return nil
	}
	if err := s.recoverLost(ids); err != nil {
		return err
	}
	s.Prune(ids, asked)
	return nil
}

// recoverLost gives each image that is present a record, if all were lost.
func (s *Store) recoverLost(ids []string) error {
	s.mu.Lock()
	lost := s.lost
	s.mu.Unlock()
	if !lost {
		return nil
	}
	for _, id := range ids {
		if err := s.put(id); err != nil {
			return fmt.Errorf("record image %q: %w", id, err)
		}
	}
	if err := os.Remove(s.all); err != nil {
		return fmt.Errorf("note that all images have records again: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = false
	return nil
}

// put records that an image was pulled by nobody known, if nothing is on record for it.
func (s *Store) put(ref string) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	name := fileName(ref)
	s.mu.Lock()
	known := s.records[name] != nil
	s.mu.Unlock()
	if known {
		return nil
	}
	r := &kubeletconfig.ImagePulledRecord{TypeMeta: typeMeta("ImagePulledRecord"), LastUpdatedTime: metav1.Now(), ImageRef: ref}
	if err := write(s.pulled, name, r); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[name] = r
	return nil
}

// forget removes an intent that no pull has taken over.
func (s *Store) forget(name string) {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	i := s.intents[name]
	idle := i != nil && i.pulls == 0
	s.mu.Unlock()
	if idle {
		s.removeIntent(name)
	}
}

// Prune drops the records of images that are not in present, a list that was
// requested at that time: for whoever removes images.
func (s *Store) Prune(present []string, asked time.Time) {
	keep := map[string]bool{}
	for _, id := range present {
		keep[fileName(id)] = true
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	gone := maps.Clone(s.records)
	s.mu.Unlock()
	for name, r := range gone {
		if !keep[name] {
			s.drop(name, r, asked)
		}
	}
}

// Drop drops the record of an image that is gone since that time, unless it has been pulled
// again since.
func (s *Store) Drop(ref string, since time.Time) {
	s.disk.Lock()
	defer s.disk.Unlock()
	name := fileName(ref)
	s.mu.Lock()
	r := s.records[name]
	s.mu.Unlock()
	if r != nil {
		s.drop(name, r, since)
	}
}

// drop is called with disk locked.
func (s *Store) drop(name string, r *kubeletconfig.ImagePulledRecord, since time.Time) {
	if !r.LastUpdatedTime.Time.Before(since.Truncate(time.Second)) {
		return // the file only has whole seconds
	}
	if err := remove(s.pulled, name); err != nil {
		klog.ErrorS(err, "Could not remove the record of an image that is gone", "imageID", r.ImageRef)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, name)
}
