// Package nodeip finds the addresses that the node reports as its own, and notices when they
// change: a lease of DHCP that ends, a name that resolves to another interface.
package nodeip

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// lookupLimit bounds the question to DNS.
const lookupLimit = 2 * time.Second

// Config is what a Finder is made of.
type Config struct {
	// Given is --node-ip: empty, or an unspecified address alone, has the Finder look; "::" has it
	// prefer IPv6. Others are the node's whatever happens. With OfHost, which the kubelet
	// asks for because the API server calls the node back, they must be this host's.
	Given    []string
	OfHost   bool
	Hostname string        // the node's name
	Period   time.Duration // between two looks (nodeStatusUpdateFrequency)
	Changed  func()        // the addresses have changed; may be nil
	Clock    clock.WithTicker
	// Resolver is asked for the node's name, for Patience at most; nil and 0: the system's, for
	// two seconds. Route returns the address of the default route's interface; nil: the kernel's.
	Resolver *net.Resolver
	Patience time.Duration
	Route    func(family net.IP) (net.IP, error)
}

// Finder knows the node's addresses. Safe for concurrent use; it is one part of the agent, see Run.
type Finder struct {
	cfg   Config
	fixed bool
	any   net.IP // the unspecified address of the preferred family
	ips   atomic.Pointer[[]string]
}

// New looks for the first time.
func New(ctx context.Context, cfg Config) (*Finder, error) {
	if cfg.Clock == nil || cfg.Period <= 0 {
		return nil, errors.New("nodeip: no Clock or Period")
	}
	f := &Finder{cfg: cfg, any: net.IPv4zero}
	if len(cfg.Given) == 1 {
		if ip := net.ParseIP(cfg.Given[0]); ip != nil && ip.IsUnspecified() {
			f.any, cfg.Given = ip, nil
		}
	}
	if f.fixed = len(cfg.Given) > 0; f.fixed {
		var ofHost []string
		if cfg.OfHost {
			ofHost = append([]string{}, ofInterfaces()...)
		}
		ips, err := checked(cfg.Given, ofHost)
		f.ips.Store(&ips)
		return f, err
	}
	ip, _ := f.look(ctx)
	if ip == "" {
		ip = makeshift(ofInterfaces())
	}
	f.ips.Store(&[]string{ip})
	return f, nil
}

// IPs returns the node's addresses, primary first. They must not be changed.
func (f *Finder) IPs() []string { return *f.ips.Load() }

// Given returns the addresses of --node-ip, none if it leaves the choice to the Finder.
func (f *Finder) Given() []string {
	if f.fixed {
		return f.IPs()
	}
	return nil
}

// Run looks again and again until ctx ends, unless the addresses are fixed.
func (f *Finder) Run(ctx context.Context) error {
	if f.fixed {
		<-ctx.Done()
		return nil
	}
	tick := f.cfg.Clock.NewTicker(f.cfg.Period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		}
		was := f.IPs()
		ip, sure := f.look(ctx)
		// A route that is away for a moment, or a name server that does not answer, is no
		// reason to be called otherwise.
		if ip == "" || ip == was[0] || !sure && slices.Contains(ofInterfaces(), was[0]) || ctx.Err() != nil {
			continue
		}
		klog.InfoS("The node has another address", "ip", ip, "before", was[0])
		f.ips.Store(&[]string{ip})
		if f.cfg.Changed != nil {
			f.cfg.Changed()
		}
	}
}

// look finds the facts and chooses. It is not sure if nobody could say what the name resolves to.
func (f *Finder) look(ctx context.Context) (ip string, sure bool) {
	found := facts{preferIPv6: f.any.To4() == nil, hostname: f.cfg.Hostname, ofHost: ofInterfaces()}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(f.cfg.Patience, lookupLimit))
	defer cancel()
	resolver := f.cfg.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupIPAddr(ctx, f.cfg.Hostname)
	for _, a := range addrs {
		found.resolved = append(found.resolved, a.IP.String())
	}
	var of *net.DNSError
	sure = err == nil || errors.As(err, &of) && of.IsNotFound
	route := f.cfg.Route
	if route == nil {
		route = utilnet.ResolveBindAddress
	}
	if ip, err := route(f.any); err == nil {
		found.byRoute = ip.String()
	}
	return choose(found), sure
}
