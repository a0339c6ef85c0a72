// Package checkpoint is the kubelet's file of which container has which devices
// (kubelet_internal_checkpoint): either can take over from the other.
//
// The kubelet's checksum is one of the data as spew prints it, with the names of its types. So the types here have the
// names that they have there, and so has this package.
package checkpoint

import (
	"encoding/json"
	"fmt"

	"github.com/mini-kubelet/mini-kubelet/pkg/resources/checksum"
)

// FileName is the file's name in the directory of the device plug-ins' sockets.
const FileName = "kubelet_internal_checkpoint"

// DevicesPerNUMA lists the IDs of devices by NUMA node; -1 stands for devices that belong to none.
type DevicesPerNUMA map[int64][]string

// PodDevicesEntry is what a container has of one resource.
type PodDevicesEntry struct {
	PodUID        string
	ContainerName string
	ResourceName  string
	DeviceIDs     DevicesPerNUMA
	AllocResp     []byte // the plug-in's ContainerAllocateResponse, in protobuf
}

type checkpointData struct {
	PodDeviceEntries  []PodDevicesEntry
	RegisteredDevices map[string][]string
}

// data is the whole file.
type data struct {
	Data     checkpointData
	Checksum checksum.Checksum
}

// Encode writes the file's content. registered are the IDs of healthy devices by resource, for all
// resources that plug-ins have registered.
func Encode(entries []PodDevicesEntry, registered map[string][]string) ([]byte, error) {
	d := data{Data: checkpointData{PodDeviceEntries: entries, RegisteredDevices: registered}}
	d.Checksum = checksum.Of(d.Data)
	return json.Marshal(d)
}

// Decode reads what Encode, or a kubelet, has written.
func Decode(text []byte) (entries []PodDevicesEntry, registered map[string][]string, err error) {
	// As in the kubelet, whose checksum tells a list that is missing from an empty one.
	d := data{Data: checkpointData{PodDeviceEntries: []PodDevicesEntry{}, RegisteredDevices: map[string][]string{}}}
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, nil, fmt.Errorf("checkpoint is corrupted: %w", err)
	}
	if d.Checksum != checksum.Of(d.Data) {
		return nil, nil, checksum.ErrMismatch
	}
	return d.Data.PodDeviceEntries, d.Data.RegisteredDevices, nil
}
