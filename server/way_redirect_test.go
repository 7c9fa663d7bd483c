package main

// redirected is how many redirects this berth has followed.
func (b *berthServer) redirected() int64 {
	row := b.srv.look(0).StatsRow()
	return row.Moved + row.Asked
}
