package cni

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"
)

// maxEntries is how long each list of a result may be.
const maxEntries = 1024

// checkAnswer refuses a result, of any version of CNI, whose lists have entries that are
// null, or too many. Plug-ins are programs of others: an answer is checked before libcni reads
// it, since libcni does not expect a null in a list, hands it on, and keeps it on disk.
func checkAnswer(text []byte) error {
	type lists struct {
		Interfaces []json.RawMessage `json:"interfaces"`
		IPs        []json.RawMessage `json:"ips"`
		Routes     []json.RawMessage `json:"routes"`
	}
	var r struct {
		lists
		IP4 lists `json:"ip4"` // of CNI 0.2
		IP6 lists `json:"ip6"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	for name, list := range map[string][]json.RawMessage{
		"interfaces": r.Interfaces, "ips": r.IPs, "routes": r.Routes, "ip4.routes": r.IP4.Routes, "ip6.routes": r.IP6.Routes,
	} {
		if len(list) > maxEntries {
			return fmt.Errorf("%s has %d entries, more than %d", name, len(list), maxEntries)
		}
		for i, entry := range list {
			if string(entry) == "null" {
				return fmt.Errorf("%s[%d] is null", name, i)
			}
		}
	}
	return nil
}

// resultOf reads a result of CNI 1.0: the answer to an ADD, or what is on record of one.
func resultOf(text []byte) (Result, error) {
	if err := checkAnswer(text); err != nil {
		return Result{}, fmt.Errorf("read the result: %w", err)
	}
	var r types100.Result
	if err := json.Unmarshal(text, &r); err != nil {
		return Result{}, fmt.Errorf("read the result: %w", err)
	}
	var res Result
	for i, ip := range r.IPs {
		if ip == nil || ip.Address.IP.To16() == nil {
			return Result{}, fmt.Errorf("read the result: ips[%d] has no address", i)
		}
		// Addresses without an interface are the pod's; those of an interface on the host are not.
		if n := ip.Interface; n != nil {
			if *n < 0 || *n >= len(r.Interfaces) || r.Interfaces[*n] == nil || r.Interfaces[*n].Sandbox == "" {
				continue
			}
		}
		res.IPs = append(res.IPs, ip.Address.IP.String())
	}
	switch {
	case len(r.IPs) == 0:
		return Result{}, errors.New("the plug-ins gave no address")
	case len(res.IPs) == 0:
		return Result{}, errors.New("the plug-ins gave no address in the sandbox's network namespace")
	}
	return res, nil
}

// networkOf reads the configuration of a network from a record.
func networkOf(config []byte) (*libcni.NetworkConfigList, error) {
	list, err := libcni.ConfListFromBytes(config)
	switch {
	case err != nil:
		return nil, err
	case len(list.Plugins) == 0:
		return nil, errors.New("the network has no plug-ins")
	}
	// libcni makes file names of it.
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, err
	}
	return list, nil
}
