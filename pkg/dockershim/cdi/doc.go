// Package cdi gives containers the devices of the Container Device Interface (CDI) where Docker cannot: before
// 28.2, or with its feature "cdi" switched off.
//
//	Names    config ─▶ the devices that it asks for, by name
//	Resolve  names, files in /etc/cdi and /var/run/cdi ─▶ what their vendors want done to a container
//	Apply    that ─▶ docker's create call, as far as it can say it
//
// A device is given whole or not at all: whatever Docker's create call has no words for (hooks above all) is a
// refusal that names the device and the edit. Names and Resolve's and Apply's errors are refusals of package
// grpccode. Nothing here changes anything or keeps anything between calls.
//
// The format is https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md.
package cdi
