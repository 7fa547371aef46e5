package main

func (l *lab) manyKeys() error  { return nil }
func (l *lab) direct() error    { return nil }
func (l *lab) coldStart() error { return nil }
func (l *lab) changes() error   { return nil }
func (l *lab) scan() error      { return nil }
func (l *lab) study() error     { return nil }
