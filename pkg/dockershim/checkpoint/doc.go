// Package checkpoint keeps one file for each sandbox that the dockershim has made:
//
//	<dir>/<sandboxID>   what the sandbox was made with, JSON with a checksum
//
// Docker's labels are the truth about sandboxes. A checkpoint is for what Docker forgets
// when a sandbox is removed behind the dockershim's back, above all that its network has to
// be torn down. A file that is torn or was changed by hand counts as missing, and is moved
// aside.
package checkpoint
