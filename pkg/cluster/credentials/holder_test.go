package credentials

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mini-kubelet/mini-kubelet/test/damage"
	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

// Whatever is in the certificate directory, or in its place, the agent starts, and the next
// certificate is stored.
func TestOddThingsInTheCertificateDirectory(t *testing.T) {
	file := func(p string) error { return os.WriteFile(p, []byte("garbage"), 0o600) }
	pipe := func(p string) error { return unix.Mkfifo(p, 0o600) }
	directory := func(p string) error { return os.MkdirAll(filepath.Join(p, "full"), 0o700) }
	loop := func(p string) error { return os.Symlink(filepath.Base(p), p) }
	for _, c := range []struct {
		name  string
		put   func(string) error
		stays bool // what client-go reads and does not replace, and what it replaces
	}{
		{"", file, false}, {"", pipe, false},
		{currentName, file, false}, {currentName, pipe, false}, {currentName, directory, false}, {currentName, loop, false},
		{currentName, func(p string) error { return os.Symlink("nowhere", p) }, true},
		{currentName, func(p string) error { return os.Symlink("/dev/null/x", p) }, false},
		{currentName, func(p string) error { return errors.Join(file(p+"1"), os.Symlink(p+"1", p)) }, true},
		{updatedName, file, false}, {updatedName, pipe, false}, {updatedName, directory, false}, {updatedName, loop, false},
		{".crt", pipe, false}, {".key", pipe, false}, {".key", file, true},
	} {
		for _, pair := range []string{clientPair, serverPair} {
			dir := filepath.Join(t.TempDir(), "pki")
			path := dir
			if c.name != "" {
				path = filepath.Join(dir, pair+c.name)
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), c.put(path)); err != nil {
				t.Fatal(err)
			}
			safefiletest.Within(t, func() {
				if err := open(t, dir, pair); err != nil {
					t.Errorf("%s%s: the agent does not start: %v", pair, c.name, err)
				}
			})
			if !c.stays {
				damage.MovedAside(t, path)
			}
		}
	}
}

// open starts with the directory as the agent does, and stores a certificate.
func open(t *testing.T, dir, pair string) error {
	var err error
	if pair == serverPair {
		_, err = NewServing(ServingConfig{
			CertDir: dir, NodeName: "n", Bootstrap: true, Client: fake.NewClientset(), Addresses: func() []v1.NodeAddress { return nil },
		})
	} else {
		// The kubeconfig names the certificate, as once a bootstrap has written it.
		pem := filepath.Join(dir, pair+currentName)
		cfg := Config{Kubeconfig: filepath.Join(t.TempDir(), "kubelet.conf"), Bootstrap: filepath.Join(t.TempDir(), "bootstrap.conf"), CertDir: dir, NodeName: "n", Rotate: true}
		kubeconfig(t, cfg.Kubeconfig, "https://own.test", clientcmdapi.AuthInfo{ClientCertificate: pem, ClientKey: pem})
		kubeconfig(t, cfg.Bootstrap, "https://bootstrap.test", clientcmdapi.AuthInfo{Token: "b"})
		_, err = NewClient(cfg)
	}
	if err != nil || pair == serverPair {
		return err
	}
	return next(t, dir)
}

// next stores a certificate, and finds it again.
func next(t *testing.T, dir string) error {
	_, err := newTestHolder(t, dir).Update(newPair(t, "next", time.Hour))
	if got := newTestHolder(t, dir).Current(); err == nil && (got == nil || commonName(t, got) != "next") {
		return errors.New("the certificate that was stored is not found again")
	}
	return err
}

// A backup may have followed the link to the current pair, or to the one that was to be: it is
// used as before, and replaced by the next one.
func TestAPairThatIsAFile(t *testing.T) {
	cert, key := newPair(t, "restored", time.Hour)
	for _, name := range []string{currentName, updatedName} {
		dir := t.TempDir()
		path := filepath.Join(dir, clientPair+name)
		if err := os.WriteFile(path, append(cert, key...), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second finds a link
			if _, err := openStore(dir, clientPair); err != nil {
				t.Fatal(err)
			}
		}
		if got := newTestHolder(t, dir).Current(); got == nil || commonName(t, got) != "restored" {
			t.Errorf("%s: the certificate in use is %v", name, got)
		}
		if err := next(t, dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The pair before, the next one, and the link to it.
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
			t.Errorf("%s: left are %v, %v", name, entries, err)
		}
	}
}
