package record

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
	"github.com/mini-kubelet/mini-kubelet/test/damage"
)

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	p, err := options.NewImageVerification(preloaded, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func has(creds ...keyring.Credential) func() ([]keyring.Credential, error) {
	return func() ([]keyring.Credential, error) { return creds, nil }
}

func files(t *testing.T, dir string) (pulling, pulled int) {
	t.Helper()
	count := func(sub string) int {
		list, err := os.ReadDir(filepath.Join(dir, "image_manager", sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if durable.Temporary(e.Name()) {
				t.Errorf("left: %s", e.Name())
			}
		}
		return len(list)
	}
	return count("pulling"), count("pulled")
}

func TestWhatOnePodsSecretPulledIsNotOpenToOthers(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if !s.MayUse("reg/app:1", "id", has()) {
		t.Error("a preloaded image must be proved")
	}
	if err := s.Begin("reg/app:1"); err != nil {
		t.Fatal(err)
	}
	if s.MayUse("reg/app:1", "id", has(fromSecret("mine", "h1"))) {
		t.Error("an image that is being pulled counts as preloaded")
	}
	mine := fromSecret("mine", "h1")
	s.Pulled("reg/app:1", "id", &mine)
	for range 2 { // the second time of what an agent reads that is started anew
		for name, tt := range map[string]struct {
			find func() ([]keyring.Credential, error)
			want bool
		}{
			"its own":     {has(fromSecret("mine", "h1")), true},
			"none":        {has(), false},
			"another's":   {has(fromSecret("other", "h2")), false},
			"an error's":  {func() ([]keyring.Credential, error) { return nil, errors.New("no") }, false},
			"equal login": {has(fromSecret("equal", "h1")), true},
		} {
			if got := s.MayUse("reg/app:1", "id", tt.find); got != tt.want {
				t.Errorf("%s: %v", name, got)
			}
		}
		if s.MayUse("alias/app:1", "id", has(fromSecret("mine", "h1"))) {
			t.Error("the image may be used under a name that it was not pulled by")
		}
		if pulling, pulled := files(t, dir); pulling != 0 || pulled != 1 {
			t.Errorf("%d pulls and %d images on record", pulling, pulled)
		}
		s = openStore(t, dir)
	}
	// Its login has changed: the Secret is trusted, and its new login from now on.
	if !s.MayUse("reg/app:1", "id", has(fromSecret("equal", "h3"))) || !openStore(t, dir).MayUse("reg/app:1", "id", has(fromSecret("third", "h3"))) {
		t.Error("a Secret that once matched, and its new login, are not trusted")
	}
	s.Pulled("reg/app:1", "id", nil)
	if !s.MayUse("reg/app:1", "id", func() ([]keyring.Credential, error) { t.Error("credentials looked for"); return nil, nil }) {
		t.Error("closed though it was pulled without credentials")
	}
}

func TestRecordsAreTheKubeletsAndHoldNoSecrets(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if err := s.Begin("reg/app:1"); err != nil {
		t.Fatal(err)
	}
	// sha256 of "reg/app:1"
	var intent kubeletconfig.ImagePullIntent
	read(t, filepath.Join(dir, "image_manager/pulling/sha256-b6cf242b66ed3452ad8e6cc8591a775e7ec95521b14148fabef7e4b3570680bb"), &intent)
	if intent.Kind != "ImagePullIntent" || intent.APIVersion != "kubelet.config.k8s.io/v1beta1" || intent.Image != "reg/app:1" {
		t.Errorf("%+v", intent)
	}
	login := keyring.Logins{"reg": {Username: "user", Password: "hidden"}}
	var x keyring.Index
	x.Add(login, keyring.Source{Secret: &keyring.Object{UID: "u", Namespace: "ns", Name: "s"}})
	s.Pulled("reg/app:1", "sha256:id", &x.Find("reg/app")[0])
	// sha256 of "sha256:id"
	var record kubeletconfig.ImagePulledRecord
	text := read(t, filepath.Join(dir, "image_manager/pulled/sha256-5760e13aa509d80974c444f7d3edc6281937fa6f88dc52d360220d932047c758"), &record)
	got := record.CredentialMapping["reg/app"]
	if record.Kind != "ImagePulledRecord" || record.ImageRef != "sha256:id" || record.LastUpdatedTime.IsZero() ||
		len(got.KubernetesSecrets) != 1 || got.KubernetesSecrets[0].Name != "s" || len(got.KubernetesSecrets[0].CredentialHash) != 64 {
		t.Errorf("%s", text)
	}
	if strings.Contains(text, "hidden") {
		t.Errorf("a secret on disk: %s", text)
	}
}

func read(t *testing.T, path string, into any) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", i.Mode(), err)
	}
	return string(data)
}

func TestAPullEndsWithTheLastOfItsKind(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	for range 3 {
		if err := s.Begin("reg/app:1"); err != nil {
			t.Fatal(err)
		}
	}
	for want, end := range []func(){
		func() { s.Failed("reg/app:1") }, func() { s.Pulled("reg/app:1", "id", nil) }, func() { s.Failed("reg/app:1") },
	} {
		if pulling, _ := files(t, dir); pulling != 1 {
			t.Errorf("after %d of 3 ends the pull is not on record", want)
		}
		end()
	}
	if pulling, pulled := files(t, dir); pulling != 0 || pulled != 1 {
		t.Errorf("%d pulls and %d images on record, want 0 and 1", pulling, pulled)
	}
	s.Failed("never begun")
}

// runtime has images by name.
type runtime struct {
	images map[string]string
	err    error
}

func (r runtime) ImageStatus(_ context.Context, q *cri.ImageStatusRequest, _ ...grpc.CallOption) (*cri.ImageStatusResponse, error) {
	a := &cri.ImageStatusResponse{}
	if id := r.images[q.Image.Image]; id != "" {
		a.Image = &cri.Image{Id: id}
	}
	return a, r.err
}

func (r runtime) ListImages(context.Context, *cri.ListImagesRequest, ...grpc.CallOption) (*cri.ListImagesResponse, error) {
	a := &cri.ListImagesResponse{}
	for _, id := range r.images {
		a.Images = append(a.Images, &cri.Image{Id: id})
	}
	return a, r.err
}

func TestPullsThatAnAgentDiedOverArePulledByNobodyKnown(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	for _, image := range []string{"reg/done:1", "reg/not:1", "reg/again:1"} {
		if err := s.Begin(image); err != nil {
			t.Fatal(err)
		}
	}
	s.Pulled("reg/gone:1", "gone", nil)
	s.Pulled("reg/kept:1", "kept", nil)

	s = openStore(t, dir) // the agent dies
	if s.MayUse("reg/done:1", "done", has(fromSecret("mine", "h"))) {
		t.Error("open before it was looked for")
	}
	failing := errors.New("no daemon")
	if err := s.Recover(t.Context(), runtime{err: failing}); !errors.Is(err, failing) {
		t.Errorf("%v", err)
	}
	if err := s.Begin("reg/again:1"); err != nil {
		t.Fatal(err)
	}
	old := *s.records[fileName("gone")]
	old.LastUpdatedTime.Time = time.Now().Add(-time.Hour)
	s.records[fileName("gone")] = &old
	if err := s.Recover(t.Context(), runtime{images: map[string]string{"reg/done:1": "done", "reg/kept:1": "kept"}}); err != nil {
		t.Fatal(err)
	}
	if s.MayUse("reg/done:1", "done", has(fromSecret("mine", "h"))) {
		t.Error("open though nobody knows who pulled it")
	}
	if !s.MayUse("reg/not:1", "later", has()) {
		t.Error("closed though its pull came to nothing")
	}
	if s.MayUse("reg/again:1", "later", has()) {
		t.Error("open while it is pulled")
	}
	if pulling, pulled := files(t, dir); pulling != 1 || pulled != 2 {
		t.Errorf("%d pulls and %d images on record, want 1 and 2", pulling, pulled)
	}
}

func TestARecordThatCannotBeReadClosesTheImage(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	s.Pulled("reg/app:1", "id", nil)
	for _, text := range []string{"{", `{"kind":"Other","apiVersion":"kubelet.config.k8s.io/v1beta1"}`, `{"kind":"ImagePulledRecord","apiVersion":"v1"}`} {
		if err := os.WriteFile(filepath.Join(s.pulled, fileName("id")), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir)
		if s.MayUse("reg/app:1", "id", has()) {
			t.Errorf("%s: open", text)
		}
	}
	s.Pulled("reg/app:1", "id", nil)
	if !openStore(t, dir).MayUse("reg/app:1", "id", has()) {
		t.Error("closed after another pull")
	}
	old := `{"kind":"ImagePulledRecord","apiVersion":"kubelet.config.k8s.io/v1alpha1","imageRef":"id","credentialMapping":{"reg/app":{"nodePodsAccessible":true}}}`
	if err := os.WriteFile(filepath.Join(s.pulled, fileName("id")), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if !openStore(t, dir).MayUse("reg/app:1", "id", has()) {
		t.Error("an older kubelet's record is not understood")
	}
}

// Whatever becomes of a record, its image stays closed, whenever the agent is started again.
func TestADamagedRecordStopsNoAgentAndOpensNoImage(t *testing.T) {
	place := func(t *testing.T) string {
		s := openStore(t, t.TempDir())
		s.Pulled("reg/app:1", "id", nil)
		return filepath.Join(s.pulled, fileName("id"))
	}
	closed := func(t *testing.T, path string) {
		t.Helper()
		dir := filepath.Dir(filepath.Dir(filepath.Dir(path)))
		for range 2 {
			if openStore(t, dir).MayUse("reg/app:1", "id", has()) {
				t.Error("open")
			}
		}
		openStore(t, dir).Pulled("reg/app:1", "id", nil)
		if !openStore(t, dir).MayUse("reg/app:1", "id", has()) {
			t.Error("closed after another pull")
		}
	}
	damage.Each(t, place, func(t *testing.T, path string) {
		if _, err := os.Lstat(path); err == nil { // else it was removed
			closed(t, path)
		}
	})
	t.Run("an agent that died after it had moved it", func(t *testing.T) {
		path := place(t)
		if err := os.Rename(path, path+".damaged-1"); err != nil {
			t.Fatal(err)
		}
		closed(t, path)
	})
	damage.Each(t, func(t *testing.T) string {
		s := openStore(t, t.TempDir())
		if err := s.Begin("reg/app:1"); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(s.pulling, fileName("reg/app:1"))
	}, func(t *testing.T, path string) {
		_, gone := os.Lstat(path)
		s := openStore(t, filepath.Dir(filepath.Dir(filepath.Dir(path))))
		if s.MayUse("reg/app:1", "id", has()) != os.IsNotExist(gone) {
			t.Errorf("open: %v", os.IsNotExist(gone))
		}
	})
}

// Without any record, what is present counts as pulled by nobody known, and what comes later
// does not.
func TestWithoutTheRecordsAllImagesAreClosed(t *testing.T) {
	file := func(path string) error { return os.WriteFile(path, nil, 0o600) }
	link := func(path string) error { return os.Symlink("/etc/hostname", path) }
	loop := func(path string) error { return os.Symlink(path, path) }
	for _, tt := range []struct {
		lost string
		put  func(path string) error
	}{{"image_manager", file}, {"image_manager/pulled", file}, {"image_manager", link}, {"image_manager/pulled", loop}} {
		lost, put := tt.lost, tt.put
		dir := t.TempDir()
		openStore(t, dir).Pulled("reg/app:1", "id", nil)
		path := filepath.Join(dir, lost)
		if err := errors.Join(os.RemoveAll(path), put(path)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // agents that die before they have asked the runtime
			s := openStore(t, dir)
			damage.MovedAside(t, path)
			if s.MayUse("reg/app:1", "id", has()) || s.Recover(t.Context(), runtime{}) != nil || s.MayUse("reg/app:1", "id", has()) {
				t.Errorf("%s: open", lost)
			}
		}
		s := openStore(t, dir)
		if err := s.Recover(t.Context(), runtime{images: map[string]string{"reg/app:1": "id"}}); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Store{s, openStore(t, dir)} {
			if s.MayUse("reg/app:1", "id", has()) {
				t.Errorf("%s: open", lost)
			}
			if !s.MayUse("reg/loaded:1", "loaded since", has()) {
				t.Errorf("%s: an image that was loaded since is closed", lost)
			}
		}
	}
}

func TestWhatCannotBeWrittenIsNotPulled(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if err := s.Begin("reg/app:1"); err != nil {
		t.Fatal(err)
	}
	records := filepath.Join(dir, "image_manager")
	if err := os.RemoveAll(records); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(records, nil, 0o600); err != nil { // in the way
		t.Fatal(err)
	}
	if err := s.Begin("reg/other:1"); err == nil {
		t.Error("a pull begins without a record")
	}
	s.Pulled("reg/app:1", "id", nil)
	if s.MayUse("reg/app:1", "id", has()) {
		t.Error("open without a record")
	}
}

func TestConcurrentPullsAndLooks(t *testing.T) {
	s := openStore(t, t.TempDir())
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			c := fromSecret(name, "h-"+name)
			for range 5 {
				if err := s.Begin("reg/app:1"); err != nil {
					t.Error(err)
				}
				s.MayUse("reg/app:1", "id", has(c))
				s.Pulled("reg/app:1", "id", &c)
				if !s.MayUse("reg/app:1", "id", has(c)) {
					t.Errorf("%s may not use what it pulled", name)
				}
			}
		})
	}
	all.Wait()
	if n := len(s.records[fileName("id")].CredentialMapping["reg/app"].KubernetesSecrets); n != 4 {
		t.Errorf("%d Secrets on record, want 4", n)
	}
}

func TestARecordGoesWithItsImage(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	gone := time.Now()
	s.Pulled("reg/app:1", "sha256:id", nil)
	s = openStore(t, dir) // which knows the time by the file
	s.Drop("sha256:other", time.Now().Add(time.Hour))
	s.Drop("sha256:id", gone) // it has been pulled since: the file has whole seconds
	files := func() int {
		list, err := os.ReadDir(filepath.Join(dir, "image_manager/pulled"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := files(); n != 1 {
		t.Errorf("%d records are left, want that of the image that was pulled again", n)
	}
	s.Drop("sha256:id", time.Now().Add(2*time.Second))
	if n := files(); n != 0 || len(s.records) != 0 {
		t.Errorf("%d records are left on disk, %d in memory", n, len(s.records))
	}
}
