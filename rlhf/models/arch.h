// to be written by models
