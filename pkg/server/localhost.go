package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// forThisMachine refuses requests over a loopback address that were meant for some other
// machine by their Host header: a web page whose name its owner lets resolve to
// 127.0.0.1 could otherwise have a browser on this machine read what these ports show
// (DNS rebinding). Nobody else can let an IP address, localhost or one of this machine's
// names (ownNames) resolve to something else. Over other addresses any name may be this
// machine's.
func forThisMachine(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if loopback(local) && !meansThisMachine(r.Host, names) {
			turnAway(w, http.StatusForbidden, "Forbidden: the Host header names neither localhost, nor this machine, nor an IP address.\n")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownNames are the node's name, the machine's, and those that /etc/hosts gives its
// loopback addresses: on Debian 127.0.1.1 has the machine's full name.
func ownNames(nodeName string) []string {
	names := []string{nodeName}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	// What DNS says is not the machine's own word.
	files := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("DNS is not asked")
	}}
	for _, address := range []string{"127.0.0.1", "127.0.1.1", "::1"} {
		found, _ := files.LookupAddr(context.Background(), address) // an error is that there is none
		names = append(names, found...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// meansThisMachine judges a Host header. Without one the client is no browser.
func meansThisMachine(host string, names []string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"), ".")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return host == "" || strings.EqualFold(name, "localhost") || slices.ContainsFunc(names, func(own string) bool {
		return strings.EqualFold(name, strings.TrimSuffix(own, "."))
	})
}
