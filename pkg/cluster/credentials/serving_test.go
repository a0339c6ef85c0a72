package credentials

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/test/damage"
	"github.com/mini-kubelet/mini-kubelet/test/safefiletest"
)

func TestServingTemplate(t *testing.T) {
	ip := func(a string) v1.NodeAddress { return v1.NodeAddress{Type: v1.NodeInternalIP, Address: a} }
	name := func(k v1.NodeAddressType, a string) v1.NodeAddress { return v1.NodeAddress{Type: k, Address: a} }
	tests := []struct {
		name      string
		addresses []v1.NodeAddress
		ips, dns  []string // nil ips: no request
	}{
		{"nothing yet", nil, nil, nil},
		{"a name only", []v1.NodeAddress{name(v1.NodeHostName, "n1")}, nil, nil},
		{"both", []v1.NodeAddress{ip("192.0.2.1"), name(v1.NodeHostName, "n1")}, []string{"192.0.2.1"}, []string{"n1"}},
		{"in order and once", []v1.NodeAddress{ip("192.0.2.9"), ip("192.0.2.1"), ip("192.0.2.9"), name(v1.NodeInternalDNS, "z"), name(v1.NodeHostName, "a"), name(v1.NodeExternalDNS, "a")},
			[]string{"192.0.2.1", "192.0.2.9"}, []string{"a", "z"}},
		{"a name that is an address", []v1.NodeAddress{name(v1.NodeHostName, "192.0.2.1"), ip("2001:db8::1")}, []string{"192.0.2.1", "2001:db8::1"}, nil},
		{"empty", []v1.NodeAddress{ip("192.0.2.1"), name(v1.NodeHostName, "")}, []string{"192.0.2.1"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := servingTemplate("n1", tt.addresses)
			if r == nil {
				if tt.ips != nil {
					t.Fatal("no request")
				}
				return
			}
			var ips []string
			for _, i := range r.IPAddresses {
				ips = append(ips, i.String())
			}
			if !slices.Equal(ips, tt.ips) || !slices.Equal(r.DNSNames, tt.dns) {
				t.Errorf("request of %v and %v, want %v and %v", ips, r.DNSNames, tt.ips, tt.dns)
			}
			if r.Subject.CommonName != "system:node:n1" || !slices.Equal(r.Subject.Organization, []string{"system:nodes"}) {
				t.Errorf("subject = %v", r.Subject)
			}
		})
	}
}

func TestSelfSignedPairIsKeptAndRenewed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	cfg := ServingConfig{CertDir: dir, NodeName: "n1", Addresses: func() []v1.NodeAddress {
		return []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.1"}, {Type: v1.NodeHostName, Address: "n1"}}
	}}
	serial := func() string {
		t.Helper()
		s, err := NewServing(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Certificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf.VerifyHostname("n1"); err != nil {
			t.Error(err)
		}
		if !leaf.IPAddresses[0].Equal(net.ParseIP("192.0.2.1")) {
			t.Errorf("addresses = %v", leaf.IPAddresses)
		}
		return leaf.SerialNumber.String()
	}
	first := serial()
	if info, err := os.Stat(filepath.Join(dir, "kubelet.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v; want mode 0600", info.Mode(), err)
	}
	if again := serial(); again != first {
		t.Error("a pair that lasts was made anew")
	}
	put := func(cert, key []byte) {
		t.Helper()
		for name, text := range map[string][]byte{"kubelet.crt": cert, "kubelet.key": key} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	cert, key := newPair(t, "n1", time.Hour)
	put(cert, key)
	if s, err := NewServing(cfg); err != nil {
		t.Fatal(err)
	} else if c, err := s.Certificate(nil); err != nil || commonName(t, c) != "n1" {
		t.Errorf("a pair of the operator's was replaced: %v", err)
	}
	cert, key = newPair(t, "n1-ca@1", time.Hour) // as a kubelet names its own
	put(cert, key)
	if err := os.Chmod(filepath.Join(dir, "kubelet.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	ending := serial()
	if info, err := os.Stat(filepath.Join(dir, "kubelet.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key that took the place of one that all could read: %v, %v; want mode 0600", info.Mode(), err)
	}
	if ending == "1" {
		t.Error("a pair that ends within a day was not made anew")
	}
	if err := os.WriteFile(filepath.Join(dir, "kubelet.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if next := serial(); next == ending {
		t.Error("a key that does not belong to the certificate was not made anew")
	}
	damage.MovedAside(t, filepath.Join(dir, "kubelet.key")) // whoever put it there may have no other
	before := serial()
	cfg.Addresses = func() []v1.NodeAddress { return []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.1"}} }
	if serial() != before {
		t.Error("a pair with a name too many was made anew")
	}
	cfg.Addresses = func() []v1.NodeAddress {
		return []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.1"}, {Type: v1.NodeInternalIP, Address: "192.0.2.2"}}
	}
	if serial() == before {
		t.Error("a pair without the node's second address was kept")
	}
}

func TestWhichSelfSignedPairWillDo(t *testing.T) {
	p := &selfSigned{cfg: ServingConfig{CertDir: t.TempDir(), NodeName: "n1"}}
	p.certFile, p.keyFile = filepath.Join(p.cfg.CertDir, "kubelet.crt"), filepath.Join(p.cfg.CertDir, "kubelet.key")
	one, two := net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")
	if why := unfit(p.certFile, p.keyFile, "n1", nil, time.Now()); why == "" {
		t.Error("no pair at all will do")
	}
	if err := p.make([]net.IP{one, two}); err != nil {
		t.Fatal(err)
	}
	year := 365 * 24 * time.Hour
	for _, tt := range []struct {
		name, node string
		ips        []net.IP
		in         time.Duration
		fit        bool
	}{
		{"as it was made", "n1", []net.IP{one, two}, 0, true},
		{"fewer addresses", "n1", []net.IP{two}, 0, true},
		{"no address yet", "n1", nil, 0, true},
		{"another address", "n1", []net.IP{one, net.ParseIP("192.0.2.9")}, 0, false},
		{"another name", "n2", []net.IP{one}, 0, false},
		{"two days before its end", "n1", []net.IP{one}, year - 48*time.Hour, true},
		{"its last day", "n1", []net.IP{one}, year - 23*time.Hour, false},
	} {
		if why := unfit(p.certFile, p.keyFile, tt.node, tt.ips, time.Now().Add(tt.in)); (why == "") != tt.fit {
			t.Errorf("%s: %q", tt.name, why)
		}
	}
}

func TestServingCertificateFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	put := func(cert, key []byte) {
		t.Helper()
		if err := os.WriteFile(certFile, cert, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(keyFile, key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewServing(ServingConfig{CertFile: certFile, KeyFile: keyFile}); err == nil {
		t.Error("no error of files that are not there")
	}
	put(newPair(t, "first", time.Hour))
	s, err := NewServing(ServingConfig{CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		c, err := s.Certificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return commonName(t, c)
	}
	if got := name(); got != "first" {
		t.Errorf("certificate = %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	become := func(want string) {
		t.Helper()
		for range 20_000 { // the files are watched; nothing signals when they were read
			if name() == want {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Errorf("certificate = %q, want %q", name(), want)
	}
	put(newPair(t, "second", time.Hour))
	become("second")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestUnusablePairLeavesTheOneBefore(t *testing.T) {
	h := newTestHolder(t, t.TempDir())
	if _, err := h.Update(newPair(t, "first", time.Hour)); err != nil {
		t.Fatal(err)
	}
	cert, _ := newPair(t, "second", time.Hour)
	_, key := newPair(t, "third", time.Hour)
	if _, err := h.Update(cert, key); err == nil {
		t.Error("no error of a pair that is none")
	}
	if err := h.use(cert, key); err == nil {
		t.Error("no error of a pair that is none")
	}
	if got := commonName(t, h.Current()); got != "first" {
		t.Errorf("certificate = %q, want the one before", got)
	}
}

// Whatever is in the place of the self-signed pair, the agent has another.
func TestADamagedPairIsReplaced(t *testing.T) {
	for _, name := range []string{"kubelet.crt", "kubelet.key"} {
		place := func(t *testing.T) string {
			cfg := ServingConfig{NodeName: "n", CertDir: t.TempDir(), Addresses: func() []v1.NodeAddress { return nil }}
			if _, err := NewServing(cfg); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(cfg.CertDir, name)
		}
		safefiletest.Each(t, place, func(t *testing.T, what, path string) {
			if what == safefiletest.Link || what == safefiletest.HardLink {
				return // a file, to which the pair is written as by the kubelet
			}
			if _, err := NewServing(ServingConfig{NodeName: "n", CertDir: filepath.Dir(path), Addresses: func() []v1.NodeAddress { return nil }}); err != nil {
				t.Fatal(err)
			}
			if what != safefiletest.Removed {
				damage.MovedAside(t, path)
			}
		})
	}
}

func TestWhatIsWrongWithAnOperatorsPairIsToldWheneverItChanges(t *testing.T) {
	var logged strings.Builder
	defer klog.CaptureState().Restore()
	klog.LogToStderr(false)
	klog.SetOutput(&logged)
	dir := t.TempDir()
	p := &selfSigned{certFile: filepath.Join(dir, "kubelet.crt"), keyFile: filepath.Join(dir, "kubelet.key"), cfg: ServingConfig{
		NodeName: "n1", CertDir: dir, Addresses: func() []v1.NodeAddress { return nil },
	}}
	cert, key := newPair(t, "n1", 72*time.Hour)
	if err := errors.Join(os.WriteFile(p.certFile, cert, 0o600), os.WriteFile(p.keyFile, key, 0o600)); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		after time.Duration
		lines int
	}{{0, 1}, {time.Hour, 1}, {60 * time.Hour, 2}, {61 * time.Hour, 2}} { // its name, and then its end
		if why, err := p.renew(time.Now().Add(step.after)); why != "" || err != nil {
			t.Errorf("%d: %q, %v", i, why, err)
		}
		klog.Flush()
		if n := strings.Count(logged.String(), "is kept"); n != step.lines {
			t.Errorf("%d: %d lines, want %d:\n%s", i, n, step.lines, &logged)
		}
	}
}

// An operator's pair may be whole although the disk does not give it now.
func TestAPairThatTheDiskDoesNotGiveStays(t *testing.T) {
	dir := t.TempDir()
	cert, _ := newPair(t, "operator", time.Hour)
	certFile, keyFile := filepath.Join(dir, "kubelet.crt"), filepath.Join(dir, "kubelet.key")
	// A file that is there, and whose first byte cannot be read.
	if err := errors.Join(os.WriteFile(certFile, cert, 0o600), os.Symlink("/proc/self/mem", keyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewServing(ServingConfig{NodeName: "n1", CertDir: dir, Addresses: func() []v1.NodeAddress { return nil }}); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want %v", err, unix.EIO)
	}
	if text, err := os.ReadFile(certFile); err != nil || !bytes.Equal(text, cert) {
		t.Errorf("the certificate was replaced: %v", err)
	}
	if to, err := os.Readlink(keyFile); err != nil || to != "/proc/self/mem" {
		t.Errorf("the key was replaced: %v", err)
	}
}

// TestAServerShowsTheNewPairAtOnce: a node gets an address while it serves.
func TestAServerShowsTheNewPairAtOnce(t *testing.T) {
	var addresses atomic.Pointer[[]v1.NodeAddress]
	addresses.Store(&[]v1.NodeAddress{})
	cfg := ServingConfig{NodeName: "n1", CertDir: t.TempDir(), Addresses: func() []v1.NodeAddress { return *addresses.Load() }}
	s, err := newSelfSigned(cfg, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: s.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		_ = server.Close()
		<-ended
	}()
	shown := func() *x509.Certificate {
		t.Helper()
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	before := shown()
	if err := before.VerifyHostname("n1"); err != nil {
		t.Error(err)
	}
	addresses.Store(&[]v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.7"}})
	until := time.Now().Add(2 * time.Minute)
	for shown().VerifyHostname("192.0.2.7") != nil { // nothing signals when the files were read
		if time.Now().After(until) {
			t.Fatal("the server shows no certificate with the node's new address")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
