// Package checkpoint notes on disk which sandboxes the dockershim has made, a file for each:
//
//	<dir>/<sandboxID>   of no content that matters
//
// Docker's labels are the truth about sandboxes. A checkpoint is for what Docker forgets
// when a sandbox is removed behind the dockershim's back: that its network has to be torn
// down. The name says it all, so a file that is torn or was changed by hand is as good.
package checkpoint
