package credentials

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/klog/v2"
)

// selfSigned is the pair that the agent makes where it is given none: kubelet.crt and kubelet.key,
// as the kubelet's. The kubelet keeps it for ever; here it is made anew a day before it ends,
// and when the node has an address that is not in it.
type selfSigned struct {
	cfg               ServingConfig
	certFile, keyFile string
}

// selfSignedLook is how often the pair is compared with the node's addresses and the time.
const selfSignedLook = time.Minute

func newSelfSigned(cfg ServingConfig) (*Serving, error) {
	p := &selfSigned{cfg, filepath.Join(cfg.CertDir, "kubelet.crt"), filepath.Join(cfg.CertDir, "kubelet.key")}
	for _, file := range []string{p.certFile, p.keyFile} {
		if err := tidy(file); err != nil {
			return nil, err
		}
	}
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
			p.keep(ctx)
		}()
		err := follow(ctx)
		<-done
		return err
	}
	return s, nil
}

// keep renews the pair in time, until ctx ends.
func (p *selfSigned) keep(ctx context.Context) {
	ticker := time.NewTicker(selfSignedLook)
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

// renew makes the pair if it will not do, and returns why it would not.
func (p *selfSigned) renew(now time.Time) (why string, err error) {
	ips := addressesOf(p.cfg.Addresses())
	if why = unfit(p.certFile, p.keyFile, p.cfg.NodeName, ips, now); why == "" {
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
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return "there is none that can be used"
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	switch {
	case err != nil:
		return "it cannot be read"
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

func (p *selfSigned) make(ips []net.IP) error {
	if err := os.MkdirAll(p.cfg.CertDir, 0o700); err != nil {
		return err
	}
	cert, key, err := certutil.GenerateSelfSignedCertKey(p.cfg.NodeName, ips, nil)
	if err != nil {
		return err
	}
	return errors.Join(certutil.WriteCert(p.certFile, cert), keyutil.WriteKey(p.keyFile, key))
}
