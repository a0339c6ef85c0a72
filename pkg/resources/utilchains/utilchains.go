// Package utilchains makes the iptables chains of the kubelet that other components of a cluster rely on
// (makeIPTablesUtilChains). The node itself needs none of them.
//
//	mangle  KUBE-IPTABLES-HINT  empty: where it is, in legacy or nft tables, the host's iptables is;
//	                            images with both programs choose by it (KEP-3178)
//	filter  KUBE-FIREWALL       IPv4: packets to 127.0.0.0/8 from elsewhere are dropped, which route_localnet
//	                            of kube-proxy would let in (https://issue.k8s.io/90259)
package utilchains

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-iptables/iptables"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
)

const (
	hint     = "KUBE-IPTABLES-HINT"
	firewall = "KUBE-FIREWALL"
)

// period is how often it is looked whether somebody has flushed the tables, the kubelet's.
const period = time.Minute

// lockWait is how long, in seconds, iptables waits for others that change tables.
const lockWait = 5

// localnet is the rule that kube-proxy makes too: it must stay the same, or there are two.
var localnet = []string{
	"-m", "comment", "--comment", "block incoming localnet connections", "--dst", "127.0.0.0/8", "!", "--src", "127.0.0.0/8",
	"-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "DROP",
}

// Run makes the chains and puts back what is missing, until ctx ends. A host without iptables, or that does not
// let them be changed, is told about once: nothing here depends on them.
func Run(ctx context.Context) error {
	var refused logonce.Error
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		if err := within(ctx, ensure); ctx.Err() == nil && refused.Note(err) && err != nil {
			klog.InfoS("Cannot make the iptables chains KUBE-IPTABLES-HINT and KUBE-FIREWALL for kube-proxy and network plug-ins; makeIPTablesUtilChains: false says that none are needed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// parting is how long a command that is under way is waited for when the agent is to stop.
const parting = 2 * time.Second

// within runs a function whose commands no context ends: one that hangs must not keep the agent from stopping. It is then
// left to itself, and goes with the process.
func within(ctx context.Context, do func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(parting):
		klog.InfoS("iptables hangs; the agent stops without it")
		return ctx.Err()
	}
}

// ensure makes what is missing, for each family that the host has iptables for. Idempotent. Once ctx
// has ended it begins with no further command.
func ensure(ctx context.Context) error {
	var failed error
	for _, family := range []iptables.Protocol{iptables.ProtocolIPv4, iptables.ProtocolIPv6} {
		t, err := iptables.New(iptables.IPFamily(family), iptables.Timeout(lockWait))
		if err != nil {
			if family == iptables.ProtocolIPv4 {
				failed = fmt.Errorf("find iptables: %w", err)
			}
			continue // IPv6 alone is no use, and hosts without it are common
		}
		failed = errors.Join(failed, ensureFamily(ctx, t))
	}
	return failed
}

func ensureFamily(ctx context.Context, t *iptables.IPTables) error {
	if err := chain(ctx, t, "mangle", hint); err != nil {
		return err
	}
	if t.Proto() == iptables.ProtocolIPv6 {
		return nil // nothing is routed to ::1
	}
	if err := chain(ctx, t, "filter", firewall); err != nil {
		return err
	}
	for _, from := range []string{"OUTPUT", "INPUT"} {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := t.InsertUnique("filter", from, 1, "-j", firewall); err != nil {
			return fmt.Errorf("lead %s to %s: %w", from, firewall, err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := t.AppendUnique("filter", firewall, localnet...); err != nil {
		return fmt.Errorf("make the rule of %s: %w", firewall, err)
	}
	return nil
}

func chain(ctx context.Context, t *iptables.IPTables, table, name string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ok, err := t.ChainExists(table, name)
	if err == nil && !ok {
		err = t.NewChain(table, name)
	}
	if err != nil {
		return fmt.Errorf("make chain %s in table %s: %w", name, table, err)
	}
	return nil
}
