package credentials

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	v1 "k8s.io/api/core/v1"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// selfSigned is the pair that the agent makes where it is given none: kubelet.crt and kubelet.key,
// as the kubelet's. The kubelet keeps it for ever; here it is made anew a day before it ends,
// and when the node has an address that is not in it. A pair that an operator has put there is his.
type selfSigned struct {
	cfg               ServingConfig
	certFile, keyFile string
	kept              string // what the log says is wrong with an operator's pair, which is kept
}

// selfSignedLook is how often the pair is compared with the node's addresses and the time.
const selfSignedLook = time.Minute

func newSelfSigned(cfg ServingConfig, look time.Duration) (*Serving, error) {
	p := &selfSigned{cfg: cfg, certFile: filepath.Join(cfg.CertDir, "kubelet.crt"), keyFile: filepath.Join(cfg.CertDir, "kubelet.key")}
	if _, err := p.renew(time.Now()); err != nil {
		return nil, err
	}
	s, err := servingFromFiles(p.certFile, p.keyFile)
	if err != nil {
		return nil, err
	}
	follow := s.run // the files
	s.run = func(ctx context.Context) error {
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.keep(ctx, look)
		}()
		err := follow(ctx)
		<-done
		return err
	}
	return s, nil
}

// keep renews the pair in time, until ctx ends.
func (p *selfSigned) keep(ctx context.Context, look time.Duration) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			why, err := p.renew(now)
			switch {
			case err != nil && !failed:
				klog.ErrorS(err, "The serving certificate could not be renewed, trying again", "why", why)
			case err == nil && why != "":
				klog.InfoS("The self-signed serving certificate was made anew", "path", p.certFile, "why", why)
			}
			failed = err != nil
		}
	}
}

// renew makes the pair if it will not do, and returns why it would not. A pair that the disk or the machine does not let
// it read (EIO, EMFILE, …) may be a good one, and stays.
func (p *selfSigned) renew(now time.Time) (why string, err error) {
	for _, file := range []string{p.certFile, p.keyFile} {
		if err := tidy(file); err != nil {
			return "", err
		}
	}
	ips := addressesOf(p.cfg.Addresses())
	if why = unfit(p.certFile, p.keyFile, p.cfg.NodeName, ips, now); why == "" {
		p.kept = ""
		return "", nil
	}
	switch leaf, err := leafOf(p.certFile, p.keyFile); {
	case errors.As(err, new(*fs.PathError)) && !errors.Is(err, fs.ErrNotExist):
		return why, fmt.Errorf("read the serving certificate: %w", err)
	case err != nil: // it may be an operator's, half copied
		if err := errors.Join(putAside(p.certFile, err), putAside(p.keyFile, err)); err != nil {
			return why, err
		}
	case !madeHere(leaf):
		if p.kept != why {
			klog.InfoS("The serving certificate is kept, since no kubelet has made it; replace it, or remove both files", "path", p.certFile, "but", why)
		}
		p.kept = why
		return "", nil
	}
	if err := p.make(ips); err != nil {
		return why, fmt.Errorf("make a serving certificate: %w", err)
	}
	return why, nil
}

// addressesOf returns the IP addresses among a node's.
func addressesOf(all []v1.NodeAddress) []net.IP {
	var ips []net.IP
	for _, a := range all {
		if ip := net.ParseIP(a.Address); ip != nil {
			ips = append(ips, ip)
		}
	}
	return ips
}

// unfit says why a pair cannot be used for another day at least, "" if it can. An address too many
// is no reason: who has been given the certificate to trust can go on.
func unfit(certFile, keyFile, name string, ips []net.IP, now time.Time) string {
	leaf, err := leafOf(certFile, keyFile)
	switch {
	case err != nil:
		return "there is none that can be used"
	case !now.Add(24 * time.Hour).Before(leaf.NotAfter):
		return "it ends within a day"
	case leaf.VerifyHostname(name) != nil:
		return "it is for another name"
	}
	for _, ip := range ips {
		if leaf.VerifyHostname(ip.String()) != nil {
			return "the node has another address, " + ip.String()
		}
	}
	return ""
}

func leafOf(certFile, keyFile string) (*x509.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(pair.Certificate[0])
}

// ofKubelets is how GenerateSelfSignedCertKey names the CA that it makes for one certificate.
var ofKubelets = regexp.MustCompile(`-ca@[0-9]+$`)

// madeHere reports whether a kubelet, this or another, has made the certificate itself.
func madeHere(leaf *x509.Certificate) bool { return ofKubelets.MatchString(leaf.Issuer.CommonName) }

// putAside keeps what is at the path under another name.
func putAside(path string, cause error) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := durable.MoveAside(path, "The serving certificate, which is made anew.", cause); !errors.Is(err, durable.ErrDamaged) {
		return err
	}
	return nil
}

func (p *selfSigned) make(ips []net.IP) error {
	cert, key, err := certutil.GenerateSelfSignedCertKey(p.cfg.NodeName, ips, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(durable.Write(p.keyFile, key), durable.Write(p.certFile, cert)); err != nil {
		return err
	}
	return os.Chmod(p.certFile, 0o644) // for clients that are to trust it, as the kubelet's
}
