package volume

// Path is where a volume that is set up is on the host, and how containers mount
// it.
type Path struct {
	Host string
	// ReadOnly is true for volumes that no container may write (configMap, secret,
	// downwardAPI, projected, image, read-only claims), whatever the volumeMount says.
	ReadOnly bool
	// Relabel asks the runtime to give the files the container's SELinux label. False
	// for hostPath: those files are not ours.
	Relabel bool
	// Block is true for a block device: for volumeDevices, not for mounts.
	Block bool
}
