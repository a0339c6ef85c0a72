package kubenet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/netdump"
)

// made is what was made for one bridge and was not there before. It is on record before it is made: a
// crash leaves something on record that is not there, never the other way round.
type made struct {
	// Boot is that of the machine at which the bridge, addresses and rules were made: the next one has none of them.
	Boot string `json:"boot"`
	// CIDRs are those that the bridge has or is about to have addresses of.
	CIDRs []netip.Prefix `json:"cidrs"`
	// Bridge says that the bridge is ours, Addresses of which CIDRs it had no address.
	Bridge    bool           `json:"bridge,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Rules     []rule         `json:"rules,omitempty"`
	// Dirs are the directories of host-local and libcni that were missing, each before the one that it is in.
	Dirs []string `json:"dirs,omitempty"`
}

// facts is what is on the machine.
type facts struct {
	boot      string
	bridge    bool
	addresses []netip.Prefix // CIDRs that the bridge has an address of
	rules     []rule         // of those wanted
	missing   []string       // directories
}

// at returns what is left of what was made at another time of the machine. It is pure.
func (m made) at(boot string) made {
	if m.Boot == boot {
		return m
	}
	return made{Boot: boot, Dirs: m.Dirs}
}

// with returns what will have been made once the bridge has addresses of these CIDRs, and these rules are
// there. What is there already and not on record is somebody else's. It is pure.
func (m made) with(cidrs []netip.Prefix, wanted []rule, now facts) made {
	m = m.at(now.boot)
	m.CIDRs = cidrs
	m.Bridge = m.Bridge || !now.bridge
	m.Addresses, m.Rules, m.Dirs = slices.Clone(m.Addresses), slices.Clone(m.Rules), slices.Clone(m.Dirs)
	for _, c := range cidrs {
		if !slices.Contains(m.Addresses, c) && !slices.Contains(now.addresses, c) {
			m.Addresses = append(m.Addresses, c)
		}
	}
	for _, r := range wanted {
		if !among(m.Rules, r) && !among(now.rules, r) {
			m.Rules = append(m.Rules, r)
		}
	}
	var dirs []string
	for _, d := range now.missing {
		if !slices.Contains(m.Dirs, d) {
			dirs = append(dirs, d)
		}
	}
	m.Dirs = append(dirs, m.Dirs...)
	return m
}

// outdated returns which of ours is of no use any more with these CIDRs and rules. It is pure.
func (m made) outdated(cidrs []netip.Prefix, wanted []rule) (addresses []netip.Prefix, rules []rule) {
	for _, c := range m.Addresses {
		if !slices.Contains(cidrs, c) {
			addresses = append(addresses, c)
		}
	}
	for _, r := range m.Rules {
		if !among(wanted, r) {
			rules = append(rules, r)
		}
	}
	return addresses, rules
}

// make ensures what the network needs beside the plug-ins, and notes what they will make.
func (n *Network) make(cidrs []netip.Prefix, unused bool) error {
	all, err := readMade(n.cfg.Record)
	if err != nil {
		return err
	}
	before := n.made
	if n.cfg.Record != "" {
		before = all[n.cfg.Bridge]
	}
	var wanted []rule
	for _, c := range cidrs {
		wanted = append(wanted, rulesOf(n.cfg.Bridge, c, n.non)...)
	}
	now, err := n.look(cidrs, wanted)
	if err != nil {
		return err
	}
	before = before.at(now.boot)
	if len(before.CIDRs) > 0 && !slices.Equal(before.CIDRs, cidrs) {
		if !unused {
			return fmt.Errorf("the pod CIDR is %v and cannot become %v while there are pods", before.CIDRs, cidrs)
		}
		// The bridge plug-in takes none that has addresses of another one.
		addresses, rules := before.outdated(cidrs, wanted)
		if err := removeAll(n.cfg.Bridge, addresses, rules); err != nil {
			return err
		}
		before.Addresses = slices.DeleteFunc(slices.Clone(before.Addresses), func(c netip.Prefix) bool { return slices.Contains(addresses, c) })
		before.Rules = slices.DeleteFunc(slices.Clone(before.Rules), func(r rule) bool { return among(rules, r) })
	}
	n.made = before.with(cidrs, wanted, now)
	if n.cfg.Record != "" {
		all[n.cfg.Bridge] = n.made
		if err := writeMade(n.cfg.Record, all); err != nil {
			return err
		}
	}
	for _, r := range wanted {
		if err := r.ensure(); err != nil {
			return err
		}
	}
	return nil
}

// look finds out what is there of what the network needs.
func (n *Network) look(cidrs []netip.Prefix, wanted []rule) (now facts, err error) {
	if now.boot, err = bootID(); err != nil {
		return now, err
	}
	link, err := bridge(n.cfg.Bridge)
	if err != nil {
		return now, err
	}
	if now.bridge = link != nil; now.bridge {
		if now.addresses, err = prefixes(link); err != nil {
			return now, err
		}
	}
	for _, r := range wanted {
		is, err := r.exists()
		if err != nil {
			return now, err
		}
		if is {
			now.rules = append(now.rules, r)
		}
	}
	for _, dir := range n.dirs() {
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			now.missing = append(now.missing, dir)
		}
	}
	return now, nil
}

// dirs are the directories that host-local and libcni make, each before the one that it is in.
func (n *Network) dirs() []string {
	addresses, cache := cmp.Or(n.cfg.DataDir, "/var/lib/cni/networks"), cmp.Or(n.cfg.CacheDir, libcni.CacheDir)
	return []string{filepath.Join(addresses, networkName(n.cfg.Bridge)), addresses, filepath.Join(cache, "results"), cache, filepath.Dir(cache)}
}

// Reset removes what networks with this record have made, and the record, and returns what it has removed.
// Nobody may use them any more. A bridge that somebody else's interfaces are on stays, and so does what
// others have in directories. It may be repeated.
func Reset(record string) (removed []string, err error) {
	all, err := readMade(record)
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name].at(boot)
		if _, err := bridge(name); errors.Is(err, errNoBridge) { // ours has gone
			m.Bridge, m.Addresses = false, nil
		}
		errs = append(errs, removeAll(name, m.Addresses, m.Rules))
		if m.Bridge {
			gone, err := removeBridge(name)
			if errs = append(errs, err); gone {
				removed = append(removed, "bridge "+name)
			}
		}
		for _, dir := range m.Dirs {
			if filepath.Base(dir) == networkName(name) {
				errs = append(errs, removeReserved(dir))
			}
			_ = os.Remove(dir) // others may keep something there
		}
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("remove what kubenet has made: %w", err)
	}
	for _, path := range append(durable.Aside(record), record) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
	}
	return removed, nil
}

// removeAll removes addresses of these CIDRs from the bridge, and rules.
func removeAll(name string, addresses []netip.Prefix, rules []rule) error {
	var errs []error
	for _, r := range rules {
		errs = append(errs, r.remove())
	}
	link, err := bridge(name)
	if link == nil || len(addresses) == 0 {
		return errors.Join(append(errs, err)...)
	}
	has, err := addressesOf(link)
	errs = append(errs, err)
	for _, a := range has {
		if p, ok := prefix(a); ok && slices.Contains(addresses, p) {
			if err := netlink.AddrDel(link, &a); err != nil {
				errs = append(errs, fmt.Errorf("take address %s from bridge %s: %w", a.IPNet, name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// removeBridge removes a bridge without interfaces, and reports whether it did.
func removeBridge(name string) (bool, error) {
	link, err := bridge(name)
	if link == nil {
		return false, err
	}
	links, err := netdump.Whole(netlink.LinkList)
	if err != nil {
		return false, fmt.Errorf("look for interfaces of bridge %s: %w", name, err)
	}
	if slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().MasterIndex == link.Attrs().Index }) {
		return false, nil
	}
	if err := netlink.LinkDel(link); err != nil {
		return false, fmt.Errorf("remove bridge %s: %w", name, err)
	}
	return true, nil
}

// removeReserved removes what host-local keeps in a network's directory of its own beside one file an address, unless
// there still are such.
func removeReserved(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for addresses of pods: %w", err)
	}
	own := func(e fs.DirEntry) bool {
		return e.Type().IsRegular() && (e.Name() == "lock" || strings.HasPrefix(e.Name(), "last_reserved_ip."))
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !own(e) }) {
		return nil
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// errNoBridge is wrapped where something else has the bridge's name.
var errNoBridge = errors.New("it is not a bridge")

// bridge returns the bridge of that name, nil if there is none.
func bridge(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for bridge %s: %w", name, err)
	case link.Type() != "bridge":
		return nil, fmt.Errorf("network interface %s of type %s: %w", name, link.Type(), errNoBridge)
	}
	return link, nil
}

func addressesOf(link netlink.Link) ([]netlink.Addr, error) {
	return netdump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_ALL) })
}

// prefixes returns the CIDRs that the link has addresses of.
func prefixes(link netlink.Link) (all []netip.Prefix, err error) {
	addrs, err := addressesOf(link)
	if err != nil {
		return nil, fmt.Errorf("look for addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, a := range addrs {
		if p, ok := prefix(a); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

func prefix(a netlink.Addr) (netip.Prefix, bool) {
	if a.IPNet == nil {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(a.IPNet.String())
	return p.Masked(), err == nil
}

// bootID tells one start of the machine from another.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// readMade reads what was made, by bridge. An empty path has nothing.
func readMade(path string) (map[string]made, error) {
	all := map[string]made{}
	if path == "" {
		return all, nil
	}
	const lost = "Which bridge, rules and directories kubenet has made. What is there now stays when the node is reset; remove by hand what you do not need."
	err := durable.Load(path, lost, func(text []byte) error { return json.Unmarshal(text, &all) })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return map[string]made{}, nil
	case err != nil:
		return nil, fmt.Errorf("read what kubenet has made: %w", err)
	case all == nil: // null
		return map[string]made{}, nil
	}
	return all, nil
}

func writeMade(path string, all map[string]made) error {
	text, err := json.Marshal(all)
	if err == nil {
		err = durable.Write(path, text)
	}
	if err != nil {
		return fmt.Errorf("note what is made: %w", err)
	}
	return nil
}
