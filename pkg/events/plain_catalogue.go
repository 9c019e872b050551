package events

// ReadPlain reads a field.
func (p *OrderPlaced) ReadPlain(r *PlainReader, name []byte) {
	switch string(name) {
	case "order_id":
		r.Text(&p.OrderID)
	case "customer_id":
		r.Text(&p.CustomerID)
	case "currency":
		r.Text(&p.Currency)
	case "placed_at":
		r.Time(&p.PlacedAt)
	case "lines":
		PlainList(r, &p.Lines)
	case "total_minor":
		r.Int((*int64)(&p.Total))
	case "request_digest":
		r.Text(&p.RequestDigest)
	default:
		r.Skip(name)
	}
}

// ReadPlain reads a field.
func (l *Line) ReadPlain(r *PlainReader, name []byte) {
	switch string(name) {
	case "sku":
		r.Text(&l.SKU)
	case "quantity":
		r.Int(&l.Quantity)
	case "unit_price_minor":
		r.Int((*int64)(&l.UnitPrice))
	default:
		r.Skip(name)
	}
}

// ReadPlain reads a field.
func (p *OrderConfirmed) ReadPlain(r *PlainReader, name []byte) {
	switch string(name) {
	case "order_id":
		r.Text(&p.OrderID)
	case "customer_id":
		r.Text(&p.CustomerID)
	case "currency":
		r.Text(&p.Currency)
	case "total_minor":
		r.Int((*int64)(&p.Total))
	case "payment_id":
		r.Text(&p.PaymentID)
	default:
		r.Skip(name)
	}
}

// ReadPlain reads a field.
func (d *StockDecision) ReadPlain(r *PlainReader, name []byte) {
	switch string(name) {
	case "order_id":
		r.Text(&d.OrderID)
	case "order_seq":
		r.Uint(&d.OrderSeq)
	case "lines":
		PlainList(r, &d.Lines)
	case "shortages":
		PlainList(r, &d.Shortages)
	default:
		r.Skip(name)
	}
}

// ReadPlain reads a field.
func (s *Shortage) ReadPlain(r *PlainReader, name []byte) {
	switch string(name) {
	case "sku":
		r.Text(&s.SKU)
	case "requested":
		r.Int(&s.Requested)
	case "available":
		r.Int(&s.Available)
	default:
		r.Skip(name)
	}
}

// ReadPlain reads a field.
func (p *PageClicked) ReadPlain(r *PlainReader, name []byte) {
	switch string(name) {
	case "user":
		r.Text(&p.User)
	case "page":
		r.Text(&p.Page)
	case "platform":
		r.Text(&p.Platform)
	default:
		r.Skip(name)
	}
}
